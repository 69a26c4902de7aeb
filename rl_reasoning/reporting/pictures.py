"""A picture in three forms: SVG text for an HTML page, and SVG and PNG files for papers and slides.

Inside a page colours are CSS variables with a fallback (`var(--ink, #1f2328)`), so the page can recolour them for a
dark screen; text stays text. The same input gives the same bytes: no dates, no random ids. Each picture's ids carry its
name, so several can share a page. matplotlib is imported only when something is drawn.
"""

import dataclasses
import io
import pathlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2328", "#6a7079", "#d9dce0"
# Okabe and Ito's colours that keep apart for every common kind of colour blindness; yellow is too pale.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    **{color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)},
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rl_reasoning",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.8,
}
_PNG_DOTS = 200


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawing that is made when it is asked for.

    Attributes:
      name: part of the ids, and of file names.
      draw: draws on an empty figure.
      size: inches.
    """

    name: str
    draw: Callable[["Figure"], None]
    size: tuple[float, float]

    def embedded(self) -> str:
        """SVG text to be placed inside an HTML page."""
        buffer = io.StringIO()
        self._write(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _embeddable(buffer.getvalue(), self.name)

    def save(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes NAME.svg and NAME.png, on white, and returns their paths."""
        paths = [folder / f"{self.name}.{form}" for form in ("svg", "png")]
        self._write(paths[0], format="svg", metadata={"Date": None, "Creator": None})
        self._write(paths[1], format="png", dpi=_PNG_DOTS, metadata={"Software": None})
        return paths

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self._write(buffer, format="png", dpi=_PNG_DOTS, metadata={"Software": None})
        return buffer.getvalue()

    def _write(self, target: Any, **options: Any) -> None:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
            # 72 dots an inch make a dot one point, the unit in which labels are placed.
            figure = Figure(figsize=self.size, dpi=72, layout="constrained")
            self.draw(figure)
            figure.savefig(target, **options)


def _embeddable(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)
    svg = svg.replace("'DejaVu Sans', ", "")
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    return svg.strip()
