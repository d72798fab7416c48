"""Bugs that no single step shows: in watches, in whole calls, and in what is done with many records at once."""

from __future__ import annotations

import time

from retrysafe.persistence.datarecord import INPROGRESS
from support.broken_layers.planted import caught_by
from support.honest_layers import HonestLayer, TellingLayer

# --- watches ----------------------------------------------------------------------------------------------------------


@caught_by("a_watch_wakes_when_the_record_completes")
class OnlyReleasesAreTold(TellingLayer):
    def tell(self, record):
        if record.stored_status == INPROGRESS:
            super().tell(record)


@caught_by("a_watch_wakes_when_the_record_is_released")
class OnlyOutcomesAreTold(TellingLayer):
    def tell(self, record):
        if record.stored_status != INPROGRESS:
            super().tell(record)


# --- whole calls ------------------------------------------------------------------------------------------------------


@caught_by("a_duplicate_gets_the_first_answer_and_nothing_runs_twice", "an_outcome_refuses_claims_and_is_told")
class OutcomesDoNotCount(HonestLayer):
    def gives_way(self, standing, claim):
        return standing.stored_status != INPROGRESS or super().gives_way(standing, claim)


@caught_by("waiting_duplicates_get_the_answer")
class ReadsGiveTheClaimForEver(HonestLayer):
    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.claims = {}

    def _put_record(self, data_record):
        super()._put_record(data_record)
        self.claims[data_record.idempotency_key] = data_record

    def _get_record(self, idempotency_key):
        super()._get_record(idempotency_key)
        return self.claims[idempotency_key]


@caught_by("functions_with_different_configs_share_a_layer")
class TheFirstWindowIsEverybodys(HonestLayer):
    window = None

    def outcome(self, standing, record):
        window = record.expiry_timestamp - record.made_at_ms // 1000
        self.window = self.window or window
        return record.replaced(expiry_timestamp=record.expiry_timestamp - window + self.window)


@caught_by("lost_replies_cost_no_second_run")
class RefusalTellsNoOwner(HonestLayer):
    def told(self, standing, claim):
        return standing.replaced(owner=None)


# --- many at once -----------------------------------------------------------------------------------------------------


class ForMany(HonestLayer):
    """Takes many records at once, each by itself, as it must be."""

    def _for_each(self, operation, arguments):
        return [self.told(operation, argument) for argument in arguments]

    def told(self, operation, argument):
        try:
            return getattr(self, f"_{operation}_record")(argument)
        except Exception as error:  # noqa: BLE001  # the outcome
            return error


@caught_by(
    "of_many_claims_each_is_won_or_refused_by_itself",
    "of_many_outcomes_each_is_stored_for_its_owner_alone",
    "what_is_no_record_among_many_says_nothing_about_the_others",
)
class AllOrNothing(ForMany):
    def _for_each(self, operation, arguments):
        before = dict(self.records)
        outcomes = super()._for_each(operation, arguments)
        if any(isinstance(outcome, Exception) for outcome in outcomes):
            self.records.clear()
            self.records.update(before)
        return outcomes


@caught_by("of_many_takeovers_each_compares_what_it_saw")
class ManyTakeoversCompareNothing(ForMany):
    def _for_each(self, operation, arguments):
        for argument in arguments if operation == "put" else ():
            if argument.replaces is not None:
                self.records.pop(argument.idempotency_key, None)
        return super()._for_each(operation, arguments)


@caught_by("of_many_outcomes_each_is_stored_for_its_owner_alone")
class ManyOutcomesAskForNoOwner(ForMany):
    def told(self, operation, argument):
        if operation != "update":
            return super().told(operation, argument)
        self.records[argument.idempotency_key] = argument
        return None


@caught_by("of_many_releases_each_removes_its_own")
class ManyReleasesAskForNoOwner(ForMany):
    def told(self, operation, argument):
        if operation != "delete":
            return super().told(operation, argument)
        self.records.pop(argument.idempotency_key, None)
        return None


@caught_by("of_many_leases_each_is_renewed_for_its_owner_alone")
class ManyRenewalsAreNotWritten(ForMany):
    def told(self, operation, argument):
        if operation != "renew":
            return super().told(operation, argument)
        return self.told("get", argument.idempotency_key) and None


@caught_by("many_looks_find_each_its_own_record")
class ManyLooksComeBackSorted(ForMany):
    def _for_each(self, operation, arguments):
        outcomes = super()._for_each(operation, arguments)
        return outcomes if operation != "get" else sorted(outcomes, key=lambda each: isinstance(each, Exception))


@caught_by("one_of_many_rivals_claims_each_of_many_keys")
class ManyClaimsAreLookedAtFirstAndStoredThen(ForMany):
    def _for_each(self, operation, arguments):
        if operation != "put":
            return super()._for_each(operation, arguments)
        standing = [self.records.get(argument.idempotency_key) for argument in arguments]
        time.sleep(0.005)
        outcomes = []
        for argument, record in zip(arguments, standing, strict=True):
            refusal = None
            if record is None:
                self.records[argument.idempotency_key] = argument
            else:
                refusal = self.told("put", argument)
            outcomes.append(refusal)
        return outcomes
