"""PriceTable: the price of a model at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date, datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from costtrace.exceptions import StalePricesWarning
from costtrace.money import Money
from costtrace.pricing.bound import NEVER_DEARER, Bound, bound_of, tiers_that_may_serve
from costtrace.pricing.catalogue import Catalogue, Limits, Model, bundled_catalogue
from costtrace.pricing.memory import remember
from costtrace.pricing.names import Resolution, base_of, resolve
from costtrace.pricing.price import Price
from costtrace.pricing.timeline import (
    Span,
    Timeline,
    Wanted,
    moment_of,
    price_timeline,
    together,
)

STALE_AFTER_DAYS = 90

if TYPE_CHECKING:  # what few processes ask for is loaded when they do
    from costtrace.pricing.compare import TableDiff
    from costtrace.pricing.explain import Explanation


class PriceTable:
    """What every model costs, by date, tier, context and place. Immutable; safe from any thread.

    >>> table = PriceTable.bundled().with_prices({"my-model": {"input": "0.50", "output": 2}})
    >>> table.price("my-model").output
    Decimal('2')
    """

    def __init__(
        self,
        catalogue: Catalogue,
        models: Mapping[str, Model] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._models = dict(models or {})
        self._aliases = dict(aliases or {})
        self._resolved: dict[str, Resolution | None] = {}
        self._prices: dict[tuple[str, ...], Timeline[Span[Price]] | None] = {}
        self._dearest: dict[tuple[str, str], Timeline[Price]] = {}
        self._bounds: dict[tuple[object, ...], Timeline[Bound | None] | None] = {}
        self.tariffs: dict[object, Any] = {}  # what `tariff_of` has worked out
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<PriceTable of {self.as_of}, {len(self.models())} models>"

    # Making one

    @classmethod
    def bundled(cls) -> PriceTable:
        """Return the table that comes with the package: always the same one, read once."""
        return _bundled()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriceTable:
        """Return the bundled table with the prices of a JSON or TOML file on top.

        The file holds `{"models": {name: {...}}, "aliases": {name: model}}`, as `with_prices`
        takes them. Raises `PriceTableError` (a ValueError) that names file, model and key.
        """
        from costtrace.pricing.overrides import read_file

        models, aliases = read_file(path)
        return cls.bundled()._with(models, aliases, os.fspath(path))

    def with_prices(
        self,
        models: Mapping[str, Mapping[str, Money]],
        aliases: Mapping[str, str] | None = None,
    ) -> PriceTable:
        """Return a table with these prices on top, in USD per million tokens.

        Keys are `input, output, cached_input, cache_write_5m, cache_write_1h, cache_write_30m,
        cache_write_12h, audio_input, audio_output, image_input, image_output`; what is left out
        costs what it would without being special (cached tokens the input price). The prices hold
        for every date, context and region, for `standard` and the tiers that never cost more;
        `"name#priority"` gives those of a dearer tier, which has none otherwise. `aliases` maps
        names, such as Azure deployments, to models. Raises `PriceTableError` (a ValueError).
        """
        return self._with(models, aliases or {}, "")

    def _with(
        self, models: Mapping[str, Mapping[str, Money]], aliases: Mapping[str, str], where: str
    ) -> PriceTable:
        from costtrace.pricing.overrides import check_mappings, raise_problems, user_models

        check_mappings(where, models=models, aliases=aliases)
        merged = {**self._models, **user_models(models, self._listed, where)}
        table = PriceTable(self._catalogue, merged, {**self._aliases, **aliases})
        raise_problems(
            [
                f"alias {name!r} stands for {target!r}, which is no known model"
                for name, target in aliases.items()
                if not isinstance(name, str) or not isinstance(target, str) or not table._ends(name)
            ],
            where,
        )
        return table

    def _ends(self, alias: str) -> bool:
        """Tell whether an alias leads to a model, and not to itself."""
        seen = {alias}
        name = self._aliases[alias]
        while name in self._aliases and name not in self._models:
            if name in seen:
                return self._listed(name) is not None
            seen.add(name)
            name = self._aliases[name]
        return self.resolve(name) is not None

    # Asking

    def price(
        self,
        model: str,
        at: datetime | date | None = None,
        *,
        provider: str | None = None,
        tier: str = "standard",
        input_tokens: int = 0,
        region: str = "",
        operation: str = "",
        variant: str = "",
    ) -> Price | None:
        """Return the price of `model`, or None where none is known; never another model's.

        `at` is an aware datetime or a date (its midnight UTC); None is now. `tier` is the one that
        served the call. `input_tokens` (all of them) picks the short or the long price; its `lines`
        pick again by the usage. `region` is `us` for Anthropic's `inference_geo`, the first part of
        an OpenAI host of a region, a Vertex region, or what `place_of` says of a Bedrock name.
        `operation` matters for `decisions`, `variant` (`hd/1024x1024`) for images priced each.
        `provider` says whose tool fees a user's own model has.
        """
        key = (model, tier, region, operation, variant, provider or "")
        try:
            timeline = self._prices[key]
        except KeyError:
            timeline = remember(self._prices, key, self._price_timeline(*key))
        return None if timeline is None else timeline.at(moment_of(at)).of(input_tokens)

    def bound(
        self,
        model: str,
        at: datetime | date | None = None,
        *,
        provider: str | None = None,
        tier: str | None = "standard",
        region: str = "",
        operation: str = "",
        variant: str = "",
        cache_lifetimes: Collection[str] | None = None,
        modalities: Collection[str] | None = None,
    ) -> Bound | None:
        """Return the dearest rates that may apply to a request, or None where they are not known.

        `tier` is the one requested: `"auto"` and None may be served as priority.
        `cache_lifetimes` are those of `5m 1h 30m 12h` that the request may write (None: any, `()`:
        none), `modalities` those of `audio image` that it may hold or bring back (None: any).
        """
        key = (
            *(model, tier, region, operation, variant, provider),
            None if cache_lifetimes is None else tuple(cache_lifetimes),
            None if modalities is None else tuple(modalities),
        )
        try:
            timeline = self._bounds[key]
        except KeyError:
            timeline = remember(self._bounds, key, self._bound_timeline(*key))
        return None if timeline is None else timeline.at(moment_of(at))

    def dearest(
        self, provider: str, at: datetime | date | None = None, *, tier: str = "standard"
    ) -> Price:
        """Return a price at which no known model of `provider` costs more, line by line.

        The highest of each line over all its models, retired ones included, in `tier` and in
        `standard`, in either context. Raises ValueError for a provider without any.
        """
        key = (provider, tier)
        try:
            timeline = self._dearest[key]
        except KeyError:
            timeline = remember(self._dearest, key, self._dearest_timeline(*key))
        return timeline.at(moment_of(at))

    def dearest_bound(
        self,
        provider: str,
        at: datetime | date | None = None,
        *,
        tier: str | None = "standard",
        cache_lifetimes: Collection[str] | None = None,
        modalities: Collection[str] | None = None,
    ) -> Bound:
        """Return the bound that goes with `dearest`, for a request to an unknown model."""
        prices = [self.dearest(provider, at, tier=each) for each in tiers_that_may_serve(tier)]
        bound = bound_of([(price, None) for price in prices], cache_lifetimes, modalities)
        assert bound is not None  # there is a price
        return bound

    def limits(self, model: str) -> Limits | None:
        """Return how many tokens a request to `model` may hold, or None for an unknown model."""
        found = self.find(model)
        return None if found is None else found.limits

    # Comparing and explaining

    def explain(self, name: str) -> Explanation:
        """Return what is known of `name`: rule, prices over time, sources, notes, limits."""
        from costtrace.pricing.explain import explain

        return explain(name, self.resolve(name), self.find(name), self._catalogue)

    def diff(self, other: PriceTable, at: datetime | date | None = None) -> TableDiff:
        """Return what changes at `at` (None: now) for one who goes from this table to `other`."""
        from costtrace.pricing.compare import difference

        return difference(self, other, moment_of(at))

    @classmethod
    def check(cls, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Return what is odd about a price file that is valid; `()` if nothing is.

        Raises `PriceTableError` like `load` for a file that is not.
        """
        from costtrace.pricing.compare import oddities

        return tuple(oddities(cls.load(path), cls.bundled()))

    # Names and models

    def resolve(self, name: str) -> Resolution | None:
        """Return which model `name` means, and by which rule; None where nobody knows."""
        try:
            return self._resolved[name]
        except KeyError:
            return remember(self._resolved, name, resolve(name, self._known, self._have_one_price))

    def find(self, name: str) -> Model | None:
        """Return the listed model that `name` means, with its rows, sources and notes."""
        found = self.resolve(name)
        return None if found is None else self._model(found.model)

    def models(self, provider: str | None = None) -> tuple[str, ...]:
        """Return the ids of all models, a user's own first."""
        own = [i for i, m in self._models.items() if provider is None or m.provider == provider]
        listed = self._catalogue.model_ids(provider)
        return (*own, *(model for model in listed if model not in self._models))

    def similar(self, model: str) -> str | None:
        """Return the known name that a misspelt one is most like; None where none is near.

        None also for a name that is known, and has no price for what was asked.
        """
        from difflib import get_close_matches

        if self.resolve(model) is not None:
            return None
        names = [*self.models(), *self.aliases]
        return next(iter(get_close_matches(model, names, 1, cutoff=0.8)), None)

    @property
    def aliases(self) -> dict[str, str]:
        """Every other name -> the model it stands for, a user's own included."""
        listed = self._catalogue.names.items()
        return {**{name: model for name, model in listed if name != model}, **self._aliases}

    @property
    def catalogue(self) -> Catalogue:
        """The bundled list below a user's prices: sources, and what has no price and why."""
        return self._catalogue

    # Age

    @property
    def as_of(self) -> date:
        """The day on which the bundled prices were put together."""
        return self._catalogue.as_of

    @property
    def age_days(self) -> int:
        """How many days ago that was, by the system's clock; see `age_on` for another one."""
        return self.age_on(datetime.now(timezone.utc).date())

    def age_on(self, today: date) -> int:
        """Return how many days old the prices are on the day `today`, at least 0."""
        return max(0, (today - self.as_of).days)

    def warn_if_stale(self, today: date | None = None) -> None:
        """Warn, once for this table, when its prices are more than 90 days old."""
        age = self.age_days if today is None else self.age_on(today)
        if age > STALE_AFTER_DAYS and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the prices are of {self.as_of}, {age} days ago: newer models have none and "
                "changed ones are wrong; update costtrace-ledger or give your own prices",
                StalePricesWarning,
                stacklevel=2,
            )

    # Inside

    def _listed(self, name: str) -> Model | None:
        model_id = self._catalogue.names.get(name)
        return None if model_id is None else self._catalogue.model(model_id)

    def _model(self, model_id: str) -> Model:
        return self._models.get(model_id) or self._catalogue.model(model_id)

    def _known(self, name: str) -> Resolution | None:
        if name in self._models:
            return Resolution(name, "user")
        if name in self._aliases:
            return self._by_user_alias(name)
        model_id = self._catalogue.names.get(name)
        if model_id is None:
            return None
        rules = ("alias" if name != model_id else "", "user" if model_id in self._models else "")
        return Resolution(model_id, "+".join(rule for rule in rules if rule))

    def _by_user_alias(self, name: str) -> Resolution | None:
        seen = set()
        while name in self._aliases and name not in seen and name not in self._models:
            seen.add(name)
            name = self._aliases[name]
        others = PriceTable(self._catalogue, self._models)
        found = others.resolve(name)
        return found and found._replace(rule="+".join(r for r in ("user-alias", found.rule) if r))

    def _have_one_price(self, base: str) -> bool:
        names = self._catalogue.names
        known = {model for name, model in names.items() if name == base or base_of(name) == base}
        rows = [
            [(p.since, p.until, [(r.tier, r.context, r.prices) for r in p.rows]) for p in m.periods]
            for m in map(self._catalogue.model, known)
        ]
        return all(each == rows[0] for each in rows)

    def _price_timeline(
        self, name: str, tier: str, region: str, operation: str, variant: str, provider: str
    ) -> Timeline[Span[Price]] | None:
        found = self.resolve(name)
        if found is None:
            return None
        model = self._model(found.model)
        if model.is_user and not model.provider and provider:
            model = replace(model, provider=provider)
        place = found.place
        if ":" in region:
            place, region = region, ""
        elif place == "vertex:":
            place, region = f"vertex:{region}", ""
        return price_timeline(
            model,
            Wanted(tier, region, place, operation, variant, found.rule, found.is_assumed),
            self._catalogue,
        )

    def _bound_timeline(
        self,
        name: str,
        tier: str | None,
        region: str,
        operation: str,
        variant: str,
        provider: str | None,
        lifetimes: tuple[str, ...] | None,
        modalities: tuple[str, ...] | None,
    ) -> Timeline[Bound | None] | None:
        lines = {
            each: self._price_timeline(name, each, region, operation, variant, provider or "")
            for each in tiers_that_may_serve(tier)
        }
        timelines = [line for line in lines.values() if line is not None]
        if not timelines:
            return None

        def bound(spans: list[Span[Price]]) -> Bound | None:
            if spans[0].short is None and tier not in NEVER_DEARER:
                return None
            return bound_of([(s.short, s.long) for s in spans], lifetimes, modalities)

        return together(timelines, bound)

    def _dearest_timeline(self, provider: str, tier: str) -> Timeline[Price]:
        from costtrace.pricing.dearest import dearest_price

        timelines = [
            timeline
            for model in self._catalogue.model_ids(provider)
            for each in dict.fromkeys((tier, "standard"))
            if (timeline := self._price_timeline(model, each, "", "", "", provider))
        ]
        if not timelines:
            raise ValueError(f"no prices are known of the provider {provider!r}")
        return together(timelines, lambda spans: dearest_price(spans, provider, tier))


@lru_cache(maxsize=1)
def _bundled() -> PriceTable:
    return PriceTable(bundled_catalogue())
