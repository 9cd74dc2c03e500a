/** Numbers as the pages write them. Nothing known is an en dash. */

const NOTHING = "–";
const GROUPED = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** @typedef {number | null | undefined} Figure */

/** @param {Figure} x */
const isNothing = (x) => x === null || x === undefined || Number.isNaN(x);

/**
 * @param {Figure} n
 * @returns {string} "12,345"
 */
export function count(n) {
  return isNothing(n) ? NOTHING : GROUPED.format(n);
}

/**
 * @param {Figure} s seconds
 * @returns {string} "0.4 ms", "340 ms", "1.24 s", "12.4 s", "2 min 5 s", "3 h 20 min"
 */
export function seconds(s) {
  if (isNothing(s)) return NOTHING;
  if (s > 0 && s < 0.00095) return `${(s * 1000).toFixed(1)} ms`;
  // Each limit is where the rounded figure would need a digit more.
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.995) return `${s.toFixed(2)} s`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(s / 60);
  return `${GROUPED.format(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

/**
 * @param {Figure} x anything a second
 * @returns {string} "0", "< 0.1", "3.4", "128", "12,345"
 */
export function rate(x) {
  if (isNothing(x)) return NOTHING;
  if (x === 0) return "0";
  if (x > 0 && x < 0.05) return "< 0.1";
  return x < 9.95 ? x.toFixed(1) : GROUPED.format(x);
}

/**
 * @param {Figure} x a share, 0 to 1
 * @returns {string} "0 %", "< 0.1 %", "3.4 %", "87 %", "99.7 %", "100 %"
 */
export function percent(x) {
  if (isNothing(x)) return NOTHING;
  const hundredths = x * 100;
  if (hundredths > 0 && hundredths < 0.05) return "< 0.1 %";
  if (hundredths >= 9.95 && hundredths < 99) return `${Math.round(hundredths)} %`;
  const text = hundredths.toFixed(1);
  return `${text.endsWith(".0") && (x === 0 || x >= 0.99) ? text.slice(0, -2) : text} %`;
}
