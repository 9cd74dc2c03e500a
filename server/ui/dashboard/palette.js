/** Colours as numbers: reading them from CSS, mixing them, and one hue for each request. */

const GOLDEN_ANGLE = 137.50776405;

/**
 * @typedef {[number, number, number]} Rgb each 0 to 255
 */

/**
 * @param {string} text "#rgb" or "#rrggbb", as the style sheet's custom properties are written
 * @returns {Rgb}
 * @throws {RangeError} for anything else
 */
export function parseColour(text) {
  const digits = text.trim().replace(/^#/, "");
  if (!/^([0-9a-f]{3}|[0-9a-f]{6})$/i.test(digits)) {
    throw new RangeError(`Not a colour in hexadecimal digits: "${text}".`);
  }
  const pairs = digits.length === 3 ? [...digits].map((d) => d + d) : digits.match(/../g);
  return pairs.map((pair) => Number.parseInt(pair, 16));
}

/**
 * @param {Rgb} colour
 * @returns {string} for CSS
 */
export function cssOf([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/**
 * @param {Rgb} colour
 * @returns {number} as one opaque pixel of ImageData read as a little-endian 32-bit word
 */
export function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * @param {number} pixel
 * @returns {Rgb}
 */
export function unpacked(pixel) {
  return [pixel & 255, (pixel >>> 8) & 255, (pixel >>> 16) & 255];
}

/**
 * @param {Rgb} from
 * @param {Rgb} to
 * @param {number} share of `to`, 0 to 1
 * @returns {Rgb}
 */
export function mix(from, to, share) {
  return from.map((channel, i) => Math.round(channel + (to[i] - channel) * share));
}

/**
 * A request's colour: neighbours in number are far apart in hue, all about equally light.
 *
 * @param {number} owner the request's number, from 1
 * @param {boolean} isDark whether the page is dark
 * @returns {Rgb}
 */
export function ownerColour(owner, isDark) {
  const hue = (owner * GOLDEN_ANGLE + 110) % 360;
  // Three levels of lightness tell apart the hues that the golden angle brings near again.
  const level = (owner % 3) - 1;
  return isDark
    ? fromOklch(0.74 + level * 0.06, 0.11, hue)
    : fromOklch(0.52 + level * 0.05, 0.13, hue);
}

/**
 * @param {Rgb} one
 * @param {Rgb} other
 * @returns {number} their contrast by WCAG 2, 1 to 21
 */
export function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/**
 * The palest colour on the way to another one that still stands out from it.
 *
 * @param {Rgb} from
 * @param {Rgb} to
 * @param {number} least contrast of the two that is kept, where they begin with as much
 * @returns {number} share of `to`, 0 to 1
 */
export function palestShare(from, to, least) {
  let percent = 100;
  while (percent > 0 && contrast(mix(from, to, percent / 100), to) < least) percent -= 1;
  return percent / 100;
}

function luminance(colour) {
  const [red, green, blue] = colour.map((channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Oklch to sRGB after Björn Ottosson, https://bottosson.github.io/posts/oklab/. */
function fromOklch(lightness, chroma, hue) {
  const angle = (hue * Math.PI) / 180;
  const a = chroma * Math.cos(angle);
  const b = chroma * Math.sin(angle);
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ].map((linear) => {
    const share = linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
    return Math.round(255 * Math.min(1, Math.max(0, share)));
  });
}
