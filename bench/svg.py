"""Scalable vector graphics: elements as text, colours, and documents that stand alone."""

from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
CHARACTER_WIDTH = 0.56  # of a usual character, in font sizes; for the room that texts take


@dataclass(frozen=True)
class Palette:
    """Colours of a chart; each of `series` keeps a contrast of 4.5 to the background."""

    background: str
    border: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]


LIGHT = Palette(
    background="#ffffff",
    border="#dfe3e8",
    text="#1b1f24",
    muted="#59636e",
    grid="#e9ecef",
    series=("#1f62ad", "#b4500f", "#0f7564", "#7b3fa0", "#7d6100", "#a8304f"),
)
DARK = Palette(
    background="#181b20",
    border="#30363d",
    text="#e6e9ed",
    muted="#9aa4af",
    grid="#2a2f36",
    series=("#7fb4ee", "#eea06a", "#5cc8b1", "#c69ae6", "#d6ba58", "#f08ba5"),
)


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """One element. Underscores in attribute names become hyphens; `class_` becomes `class`."""
    parts = [name]
    for key, value in attributes.items():
        shown = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
        parts.append(f"{key.rstrip('_').replace('_', '-')}={quoteattr(shown)}")
    return f"<{' '.join(parts)}>{content}</{name}>" if content else f"<{' '.join(parts)}/>"


def text(x: float, y: float, content: str, **attributes: str | float) -> str:
    """A text element; `content` is plain text."""
    return element("text", escape(content), x=x, y=y, **attributes)


def text_width(content: str, font_size: float) -> float:
    """About how many pixels a text takes."""
    return len(content) * font_size * CHARACTER_WIDTH


def css(palette: Palette, scope: str = "") -> str:
    """Style rules for charts in these colours, each selector beginning with `scope`."""
    rules = {
        ".chart": f"font-family:{FONT};font-variant-numeric:tabular-nums",
        ".chart text": f"fill:{palette.muted};font-size:11.5px",
        ".chart .title": f"fill:{palette.text};font-size:14px;font-weight:600",
        ".chart .value": f"fill:{palette.text}",
        ".chart .grid": f"stroke:{palette.grid};stroke-width:1",
        ".chart .axis": f"stroke:{palette.muted};stroke-width:1",
        ".chart .mark": f"stroke:{palette.text};stroke-width:1;stroke-dasharray:3 3;opacity:.65",
        ".chart .line": "fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round",
        ".chart .dashed": "stroke-dasharray:5 4",
        ".chart .band": "opacity:.16;stroke:none",
        ".chart .bar": "stroke:none",
        ".chart .whisker": f"stroke:{palette.text};stroke-width:1.2;fill:none",
        ".chart .point": f"stroke:{palette.background};stroke-width:1.5",
    }
    for number, colour in enumerate(palette.series):
        rules[f".chart .fill{number}"] = f"fill:{colour}"
        rules[f".chart .stroke{number}"] = f"stroke:{colour}"
        rules[f".chart text.name{number}"] = f"fill:{colour};font-weight:600"
    return "\n".join(f"{scope}{selector}{{{rule}}}" for selector, rule in rules.items())


def drawing(width: float, height: float, label: str, content: str, *, style: str = "") -> str:
    """An <svg> element of that size in its own coordinates; `label` is for screen readers."""
    inner = element("title", escape(label)) + style + content
    return element(
        "svg",
        inner,
        xmlns="http://www.w3.org/2000/svg",
        class_="chart",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
    )


def card(width: float, height: float, palette: Palette) -> str:
    """An opaque background with a border, so that a drawing reads on any page."""
    return element(
        "rect",
        x=0.5,
        y=0.5,
        width=width - 1,
        height=height - 1,
        rx=8,
        style=f"fill:{palette.background};stroke:{palette.border}",
    )
