"""Sliders that stand for one mixture: what one candidate gains the others lose, and the region is kept.

A moved slider is obeyed by the KL projection that searches use: its candidate and the locked ones are fixed, and all
others give or take in proportion, as far as their bounds allow. On the rail of each slider stands what is known of its
candidate: hatched what is not allowed, dark the shares of the mixtures that are tied with the best.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from html import escape
from itertools import count

import ipywidgets as widgets
import pandas as pd
from traitlets import Dict, HasTraits

from demix_nb.figures.colours import GREY, INK
from demix_nb.mixtures import apportion
from demix_nb.panels.controls import LISTED, LONG, chooser
from demix_nb.panels.look import short
from demix_nb.region import FLOOR, Region
from demix_nb.store import Refusal

STEP = 0.001  # of share, one step of a slider; whole steps are what lets the numbers on screen sum to exactly 1
CLOSE = 1e-6  # of share: what a projection leaves of a bound
HATCHED = f"repeating-linear-gradient(45deg, {GREY} 0 2px, transparent 2px 5px)"
RAIL = (  # the rail of a slider, thick enough to be read
    ".{own} .noUi-target {{ background: transparent; border: none; box-shadow: none; }} "
    ".{own} .noUi-connects {{ height: 9px; top: -3px; border-radius: 2px; background: {layers}, #BBBBBB55; }} "
    ".{own} .noUi-connect {{ background: transparent; }}"
)
LEGEND = {"tied": "dark: tied with the best", "bound": "hatched: not allowed"}
NUMBERS: Iterator[int] = count()  # of the style classes on a page


def whole_steps(shares: pd.Series, total: float = 1.0, step: float = STEP) -> pd.Series:
    """Return shares in whole steps, thousandths by default, that sum to `total`, by largest remainder."""
    counts = apportion(shares / shares.sum(), round(total / step))
    return pd.Series(counts, dtype=float).reindex(shares.index, fill_value=0.0) * step


def moved(shares: pd.Series, name: str, share: float, region: Region, locked: Collection[str] = ()) -> pd.Series:
    """Return the mixture of the region after `name` was set to `share`: locked ones stay, others keep proportions.

    `share` is cut to what locks and region leave; others that were all zero take equal parts. Shares are whole steps
    where the region has such. Raises Refusal where nothing can give way, and where locks leave no mixture.
    """
    held = {other: shares[other] for other in locked if other != name}
    if len(held) == len(shares) - 1:
        raise Refusal(f"{name} cannot move: the {len(held)} others are locked, and shares sum to 100 %; unlock one")
    around = within(region, held)
    least, most = reached(around, name)
    asked = round(share / STEP) * STEP
    held[name] = _snapped(least if asked < least - CLOSE else most if asked > most + CLOSE else asked)
    exact = within(region, held).project(shares.to_frame("mixture").T).iloc[0]
    return stepped(exact, region, list(held))


def within(region: Region, held: Mapping[str, float]) -> Region:
    """Return the mixtures of a region in which these candidates have these shares; raises Refusal where none has."""
    limits = region.limits
    return Region(region.candidates, limits.lower, limits.upper, fixed=held, groups=limits.groups, near=limits.near)


def reached(region: Region, name: str) -> tuple[float, float]:
    """Return the least and the largest share of a candidate in a region: where all others, or it alone, pull."""
    rows = {end: pd.Series(float(end == "most"), region.candidates) for end in ("least", "most")}
    rows["least"][:], rows["most"][:] = 1.0, FLOOR
    rows["least"][name], rows["most"][name] = FLOOR, 1.0
    return tuple(float(region.nearest(row)[name]) for row in rows.values())


def stepped(shares: pd.Series, region: Region, held: Sequence[str] = ()) -> pd.Series:
    """Return the mixture in whole steps, those `held` as they are; unchanged where the region has no such mixture."""
    free = shares.drop(list(held))
    room = 1 - shares[list(held)].sum()
    if abs(room - round(room / STEP) * STEP) > CLOSE:
        return shares
    whole = shares.copy()
    whole[free.index] = whole_steps(free, room) if room > STEP / 2 else 0.0
    return whole if region.holds(whole.to_frame("mixture").T).iloc[0] else shares


def _snapped(share: float) -> float:
    """Return the whole step that a share is within rounding of, or the share."""
    whole = round(share / STEP) * STEP
    return whole if abs(share - whole) < CLOSE else share


class Mixture(HasTraits):
    """The mixture that the sliders stand for, as one value that a panel can watch."""

    value = Dict()


class Sliders:
    """One slider and one lock per candidate, kept in the region, and buttons of presets; `mixture` is what they say.

    `names`: the candidates that get a slider, all of them where none are named; the others move in proportion. `tied`:
    candidate → low and high, the shares that are shaded. A preset is shown as it is, out of the region too, and said.
    """

    rule = staticmethod(moved)  # what a moved slider does

    def __init__(
        self,
        presets: pd.DataFrame,
        names: Sequence[str] = (),
        region: Region | None = None,
        tied: pd.DataFrame | None = None,
    ) -> None:
        self.presets, self.region = presets, region or Region(list(presets))
        self.sliders = {name: _slider(name) for name in names or presets}
        self.locks = {name: widgets.Checkbox(description="lock", indent=False, layout={"width": "4rem"})
                      for name in self.sliders}  # fmt: skip
        self.said = widgets.HTML()
        self.shades = Shades(self.sliders, self.region, tied)
        self.mixture = Mixture()
        for name in self.sliders:
            self.sliders[name].observe(lambda change, name=name: self.move(name, change.new), "value")
            self.locks[name].observe(lambda _: self._hold(), "value")
        self.buttons = {name: _preset(name, self.start) for name in presets.index[:LISTED]}
        self.start(presets.index[0])

    def start(self, name: str) -> None:
        """Put a preset on the sliders, again too; a name that is being typed and is none yet changes nothing."""
        if name in self.presets.index:
            shares = self.presets.loc[name]
            self.show(whole_steps(shares) if not self._holds(shares) else stepped(shares, self.region))

    def show(self, shares: pd.Series, said: str = "") -> None:
        """Put a mixture on the sliders, in whole steps, say what there is to say, and let whoever watches know once."""
        on_screen = whole_steps(shares)
        self.moving = True  # sliders that we move ourselves must not answer
        for name, slider in self.sliders.items():
            slider.value = on_screen[name]
        self.moving = False
        for name, button in self.buttons.items():
            same = (whole_steps(self.presets.loc[name]) - on_screen).abs().max() < STEP / 2
            button.button_style = "info" if same else ""
        notes = [f"sum <b>{shares.sum():.1%}</b>{self._unseen(shares)}", self._outside(shares), escape(said)]
        self.said.value = f'<div role="status">{"<br>".join(filter(None, notes))}</div>'
        self.mixture.value = shares.to_dict()

    def move(self, name: str, share: float) -> None:
        """Answer to a slider that the reader moved; where it cannot go so far, say how far and why."""
        if self.moving:
            return
        before = pd.Series(self.mixture.value)
        try:
            after = self.rule(before, name, share, self.region, self.locked)
        except Refusal as refusal:
            self.show(before, f"{refusal}.")
            return
        short_of = abs(after[name] - share) > STEP / 2
        why = " and ".join([*(["the locks"] if self.locked else []), *(["the region"] if self.region.bounded else [])])
        self.show(after, f"{name} goes to {after[name]:.1%} and no further: {why} leave no more." if short_of else "")

    @property
    def locked(self) -> list[str]:
        """The candidates whose share stays."""
        return [name for name, lock in self.locks.items() if lock.value]

    def free(self) -> Region:
        """Return the mixtures that region and locks allow; raises Refusal where there is none."""
        return within(self.region, {name: self.mixture.value[name] for name in self.locked})

    def _holds(self, shares: pd.Series) -> bool:
        return bool(self.region.holds(shares.to_frame("mixture").T).iloc[0])

    def _outside(self, shares: pd.Series) -> str:
        broken = self.region.limits.met(shares[self.region.candidates].to_numpy(), -STEP / 2)
        return f"not allowed here: {escape(', '.join(broken))}" if broken and not self._holds(shares) else ""

    def _unseen(self, shares: pd.Series) -> str:
        rest = shares.drop(list(self.sliders))
        return f", <b>{rest.sum():.1%}</b> of it in {len(rest)} candidates without a slider" if len(rest) else ""

    def _hold(self) -> None:
        """Disable what is locked, and the one slider that all others' locks hold as well, and say so."""
        free = [name for name in self.presets if name not in self.locked]
        for name, slider in self.sliders.items():
            slider.disabled = name in self.locked or free == [name]
        told = f"{free[0]} cannot move: the {len(self.locked)} others are locked, and shares sum to 100 %; unlock one."
        self.show(pd.Series(self.mixture.value), told if len(free) == 1 else "")

    @property
    def box(self) -> widgets.VBox:
        """The controls, ready to be displayed."""
        width = {"width": "100%", "max_width": "31rem"}
        rows = [widgets.HBox([self.sliders[name], self.locks[name]], layout=width) for name in self.sliders]
        presets = widgets.HBox(list(self.buttons.values()), layout={"flex_flow": "row wrap"})
        more = [_typed(list(self.presets.index), self.start)] if len(self.presets) > LISTED else []
        return widgets.VBox([presets, *more, *rows, self.shades.box, self.said])


def _slider(name: str) -> widgets.FloatSlider:
    look = {"readout_format": ".1%", "continuous_update": False, "description": name, "tooltip": name}
    return widgets.FloatSlider(min=0, max=1, step=STEP, **look, **LONG)


def _preset(name: str, start: Callable[[str], None]) -> widgets.Button:
    button = widgets.Button(description=short(name, 24), tooltip=f"start from {name}", layout={"width": "auto"})
    button.on_click(lambda _: start(name))
    return button


def _typed(names: list[str], start: Callable[[str], None]) -> widgets.Widget:
    choice = chooser("start from", names)
    choice.observe(lambda change: start(change.new), "value")
    return choice


class Shades:
    """What stands on the rails of sliders, by a style class for each: allowed shares, and those tied with the best."""

    def __init__(self, sliders: Mapping[str, widgets.FloatSlider], region: Region, tied: pd.DataFrame | None) -> None:
        rules, told = [], set()
        for name, slider in sliders.items():
            layers, said = _layers(name, region, tied)
            if layers:
                own = f"demix-rail-{next(NUMBERS)}"
                slider.add_class(own)
                slider.tooltip = f"{name}: {', '.join(said.values())}"
                rules.append(RAIL.format(own=own, layers=", ".join(layers)))
            told |= set(said)
        words = " · ".join(text for kind, text in LEGEND.items() if kind in told)
        self.box = widgets.HTML(f"<style>{' '.join(rules)}</style>{words}")


def _layers(name: str, region: Region, tied: pd.DataFrame | None) -> tuple[list[str], dict[str, str]]:
    """Return the backgrounds of a rail, first on top, and what they say by kind."""
    layers, said = [], {}
    if tied is not None and name in tied.index:
        low, high = tied.loc[name, ["low", "high"]]
        stops = f"transparent {low:.1%}, {INK} {low:.1%} {high:.1%}, transparent {high:.1%}"
        layers.append(f"linear-gradient(to right, {stops})")
        said["tied"] = f"tied with the best at {low:.1%} to {high:.1%}"
    low, high = region.lower[name], region.upper[name]
    if low > 0 or high < 1:
        layers += [f"{HATCHED} {end} / {part:.1%} 100% no-repeat" for end, part in (("left", low), ("right", 1 - high))]
        said["bound"] = f"allowed at {low:.1%} to {high:.1%}"
    return layers, said
