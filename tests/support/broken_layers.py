"""Layers with planted bugs, each as somebody could write it, and the checks that must catch it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, STORED_STATUSES, DataRecord
from support.honest_layers import HonestLayer, PeekingLayer, TellingLayer

BUGS = []


def caught_by(*checks):
    """Say which checks catch the bug; each is the name of one without `test_`."""

    def note(layer):
        layer.caught_by = {f"test_{check}" for check in checks}
        BUGS.append(layer)
        return layer

    return note


# --- claims ----------------------------------------------------------------------------------------------------------


@caught_by(
    "one_of_many_rivals_claims_a_free_key",
    "one_of_many_rivals_claims_a_key_whose_window_is_over",
    "one_of_many_rivals_takes_over",
    "a_completion_and_a_takeover_never_both_win",
)
class NoAtomicStep(HonestLayer):
    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.lock = contextlib.nullcontext()

    def pause(self):
        time.sleep(0.001)


@caught_by("one_of_many_rivals_claims_a_free_key", "one_of_many_rivals_takes_over")
class NoAtomicStepBetweenTasks(AsyncBasePersistenceLayer):
    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.layer = HonestLayer(clock=clock)

    async def _get_record(self, idempotency_key):
        return self.layer._get_record(idempotency_key)

    async def _put_record(self, data_record):
        records, key = self.layer.records, data_record.idempotency_key
        standing = records.get(key)
        await asyncio.sleep(0)
        if standing is not None and not self.layer.gives_way(standing, data_record):
            raise IdempotencyItemAlreadyExistsError(old_data_record=standing)
        records[key] = data_record

    async def _update_record(self, data_record):
        self.layer._update_record(data_record)

    async def _delete_record(self, data_record):
        self.layer._delete_record(data_record)

    async def _renew_record(self, data_record):
        self.layer._renew_record(data_record)


@caught_by("one_of_many_rivals_claims_a_key_whose_window_is_over")
class OnlyFreeKeysAreClaimedAtomically(HonestLayer):
    def _put_record(self, data_record):
        standing = self.records.setdefault(data_record.idempotency_key, data_record)
        if standing is data_record:
            return
        gives_way = self.gives_way(standing, data_record)
        time.sleep(0.001)
        if not gives_way:
            raise IdempotencyItemAlreadyExistsError(old_data_record=standing)
        self.records[data_record.idempotency_key] = data_record


@caught_by("a_claim_on_a_free_key_wins_and_reads_back_equal", "lost_replies_cost_no_second_run")
class OwnersAndAttemptsAreNotStored(HonestLayer):
    def read(self, record):
        return super().read(record).replaced(owner=None, attempt=1)


@caught_by("a_key_without_a_record_is_not_found", "completing_does_not_create_a_record_that_is_gone")
class NothingIsReturnedForAMissingKey(HonestLayer):
    def _get_record(self, idempotency_key):
        return self.records.get(idempotency_key)


@caught_by("a_running_record_refuses_claims_and_is_told", "an_outcome_refuses_claims_and_is_told")
class RefusalCarriesTheRefusedClaim(HonestLayer):
    def told(self, standing, claim):
        return claim


@caught_by("a_first_call_takes_two_steps_and_a_replay_one", "a_running_record_refuses_claims_and_is_told")
class RefusalCarriesNothing(HonestLayer):
    def told(self, standing, claim):
        return None


@caught_by("an_outcome_refuses_claims_and_is_told", "a_stored_failure_is_raised_again")
class OnlyCompletedAndRunningRecordsCount(HonestLayer):
    def gives_way(self, standing, claim):
        return standing.stored_status not in (INPROGRESS, COMPLETED) or super().gives_way(standing, claim)


@caught_by("a_record_whose_window_is_over_gives_way", "functions_with_different_configs_share_a_layer")
class NothingEverExpires(HonestLayer):
    def gives_way(self, standing, claim):
        return claim.replaces is not None and self.is_replaced(standing, claim.replaces)


@caught_by("the_last_second_of_a_window_still_counts")
class WindowIsJudgedInMilliseconds(HonestLayer):
    def gives_way(self, standing, claim):
        over = (
            self.read(standing).expiry_timestamp * 1000 < self.clock.now_ms() and standing.stored_status != INPROGRESS
        )
        return over or super().gives_way(standing, claim)


@caught_by("a_window_never_cuts_a_running_lease", "the_last_millisecond_of_a_lease_still_counts")
class WindowCutsALease(HonestLayer):
    def gives_way(self, standing, claim):
        over = standing.expiry_timestamp < self.clock.now_ms() // 1000
        return over or super().gives_way(standing, claim)


@caught_by("the_last_millisecond_of_a_lease_still_counts")
class LeaseEndsAMillisecondEarly(HonestLayer):
    def gives_way(self, standing, claim):
        return standing.window_over(self.clock.now_ms() + 1) or super().gives_way(standing, claim)


@caught_by(
    "a_lapsed_lease_alone_does_not_free_the_key",
    "only_the_first_takeover_of_a_record_wins",
    "an_abandoned_run_stays_where_a_person_decides",
)
class LapsedLeaseGivesWayToAnyClaim(HonestLayer):
    def gives_way(self, standing, claim):
        running = standing.stored_status == INPROGRESS
        return (running and standing.lease_over(self.clock.now_ms())) or super().gives_way(standing, claim)

    def is_replaced(self, standing, seen):
        return standing.owner == seen.owner or standing.attempt > 1


@caught_by("other_writes_sweep_nothing_that_counts", "a_lapsed_lease_alone_does_not_free_the_key")
class WritesSweepLapsedLeases(HonestLayer):
    def _put_record(self, data_record):
        for key, record in list(self.records.items()):
            if record.lease_over(self.clock.now_ms()) and record.owner is not None:
                del self.records[key]
        super()._put_record(data_record)


@caught_by("a_window_never_cuts_a_running_lease")
class WritesSweepByWindowAlone(HonestLayer):
    def _put_record(self, data_record):
        for key, record in list(self.records.items()):
            if record.expiry_timestamp < self.clock.now_ms() // 1000:
                del self.records[key]
        super()._put_record(data_record)


@caught_by("a_peers_record_without_a_lease_is_held_for_its_window")
class NoLeaseIsALeaseThatIsOver(HonestLayer):
    def gives_way(self, standing, claim):
        no_lease = standing.stored_status == INPROGRESS and standing.in_progress_expiry_timestamp is None
        return no_lease or super().gives_way(standing, claim)


@caught_by("the_shortest_lease_and_the_longest_window_read_back_equal")
class WindowsAreKeptInThirtyTwoBits(HonestLayer):
    def stored(self, record):
        return record.replaced(expiry_timestamp=min(record.expiry_timestamp, 2**32 - 1))


@caught_by("the_shortest_lease_and_the_longest_window_read_back_equal")
class LeasesAreKeptInSeconds(HonestLayer):
    def stored(self, record):
        lease_end = record.in_progress_expiry_timestamp
        return record.replaced(in_progress_expiry_timestamp=lease_end and lease_end // 1000 * 1000)


@caught_by("a_record_of_unknown_status_is_never_overwritten")
class UnknownStatusCountsAsGone(HonestLayer):
    def gives_way(self, standing, claim):
        return standing.stored_status not in STORED_STATUSES or super().gives_way(standing, claim)


@caught_by("a_record_of_unknown_status_is_never_overwritten")
class UnknownStatusGoesWithItsWindow(HonestLayer):
    def gives_way(self, standing, claim):
        known = standing.replaced(status=COMPLETED) if standing.stored_status not in STORED_STATUSES else standing
        return super().gives_way(known, claim)


@caught_by("what_is_no_record_is_never_overwritten")
class WhatIsNoRecordCountsAsGone(HonestLayer):
    def gives_way(self, standing, claim):
        return not isinstance(standing, DataRecord) or super().gives_way(standing, claim)


# --- takeovers -------------------------------------------------------------------------------------------------------


@caught_by("a_claim_that_names_a_lapsed_record_takes_it_over", "an_abandoned_run_is_taken_over")
class NothingIsTakenOver(HonestLayer):
    def is_replaced(self, standing, seen):
        return False


@caught_by("a_claim_may_name_a_record_whose_lease_runs")
class TakeoverJudgesTheLease(HonestLayer):
    def is_replaced(self, standing, seen):
        return standing.lease_over(self.clock.now_ms()) and super().is_replaced(standing, seen)


@caught_by(
    "a_takeover_compares_each_mark_of_the_claim",
    "only_the_first_takeover_of_a_record_wins",
    "a_takeover_is_refused_once_the_owner_renewed",
    "a_takeover_is_refused_once_the_owner_completed",
    "a_takeover_of_a_released_record_is_a_plain_claim",
    "a_peers_record_can_be_taken_over",
    "one_of_many_rivals_takes_over",
    "a_completion_and_a_takeover_never_both_win",
)
class TakeoverComparesNothing(HonestLayer):
    def is_replaced(self, standing, seen):
        return True


@caught_by("a_takeover_compares_each_mark_of_the_claim", "a_takeover_is_refused_once_the_owner_renewed")
class TakeoverComparesNoLease(HonestLayer):
    def is_replaced(self, standing, seen):
        marks = ("stored_status", "owner", "attempt")
        return all(getattr(standing, mark) == getattr(seen, mark) for mark in marks)


@caught_by("a_takeover_of_a_released_record_is_a_plain_claim")
class TakeoverNeedsARecord(HonestLayer):
    def _put_record(self, data_record):
        if data_record.replaces is not None and data_record.idempotency_key not in self.records:
            raise IdempotencyItemAlreadyExistsError
        super()._put_record(data_record)


@caught_by("a_peers_record_can_be_taken_over")
class TakeoverNeedsAnOwner(HonestLayer):
    def is_replaced(self, standing, seen):
        return standing.owner is not None and super().is_replaced(standing, seen)


# --- endings ---------------------------------------------------------------------------------------------------------


@caught_by("a_late_owner_cannot_complete", "a_late_owner_is_told_and_keeps_its_response")
class CompletionChecksNoOwner(HonestLayer):
    def may_complete(self, standing, record):
        return standing is not None and standing.owner is not None


@caught_by("completing_does_not_create_a_record_that_is_gone")
class LateCompletionCreatesARecord(HonestLayer):
    def may_complete(self, standing, record):
        return standing is None or super().may_complete(standing, record)


@caught_by("the_owner_completes_its_record", "a_stored_failure_is_raised_again")
class EveryOutcomeIsCompleted(HonestLayer):
    def outcome(self, standing, record):
        return record.replaced(status=COMPLETED)


@caught_by("completing_twice_is_harmless", "lost_replies_cost_no_second_run")
class OnlyARunningRecordIsCompleted(HonestLayer):
    def may_complete(self, standing, record):
        return super().may_complete(standing, record) and standing.stored_status == INPROGRESS


@caught_by("an_owner_completes_after_its_lease_while_nobody_took_over")
class CompletionNeedsARunningLease(HonestLayer):
    def may_complete(self, standing, record):
        return super().may_complete(standing, record) and not standing.lease_over(self.clock.now_ms())


@caught_by("a_record_without_owner_is_nobodys_to_complete_or_release", "a_record_without_owner_is_nobodys_to_renew")
class NoOwnerEqualsNoOwner(HonestLayer):
    def is_owner(self, standing, record):
        return standing is not None and standing.owner == record.owner


@caught_by("the_owner_releases_its_record", "an_exception_frees_the_key", "releasing_an_unknown_key_is_silent")
class NothingIsReleased(HonestLayer):
    def may_release(self, standing, record):
        return False


@caught_by("a_late_owner_cannot_release", "a_record_without_owner_is_nobodys_to_complete_or_release")
class ReleaseChecksNoOwner(HonestLayer):
    def may_release(self, standing, record):
        return standing is not None and standing.stored_status == INPROGRESS


@caught_by("an_outcome_is_not_released")
class OutcomesAreReleased(HonestLayer):
    def may_release(self, standing, record):
        return self.is_owner(standing, record)


@caught_by("an_outcome_is_not_released")
class AllButAnswersAreReleased(HonestLayer):
    def may_release(self, standing, record):
        return self.is_owner(standing, record) and standing.stored_status != COMPLETED


@caught_by("releasing_an_unknown_key_is_silent")
class ReleasingAnUnknownKeyRaises(HonestLayer):
    def _delete_record(self, data_record):
        self._get_record(data_record.idempotency_key)
        super()._delete_record(data_record)


@caught_by("a_renewal_moves_lease_and_window_and_nothing_else")
class RenewalLeavesTheWindow(HonestLayer):
    def renewal(self, standing, record):
        return record.replaced(expiry_timestamp=standing.expiry_timestamp)


@caught_by("a_renewal_moves_lease_and_window_and_nothing_else")
class RenewalDropsThePayloadHash(HonestLayer):
    def renewal(self, standing, record):
        return record.replaced(payload_hash="")


@caught_by("a_late_owner_cannot_renew", "a_record_without_owner_is_nobodys_to_renew")
class RenewalChecksNoOwner(HonestLayer):
    def may_renew(self, standing, record):
        return standing is not None and standing.stored_status == INPROGRESS


@caught_by("an_outcome_cannot_be_renewed")
class OutcomesAreRenewed(HonestLayer):
    def may_renew(self, standing, record):
        return self.is_owner(standing, record)


@caught_by("renewing_does_not_create_a_record_that_is_gone")
class LateRenewalCreatesARecord(HonestLayer):
    def may_renew(self, standing, record):
        return standing is None or super().may_renew(standing, record)


# --- records ---------------------------------------------------------------------------------------------------------


@caught_by("answers_come_back_to_the_character", "falsy_answers_replay_equal")
class FalsyAnswersAreLost(HonestLayer):
    def stored(self, record):
        return (
            record if record.response_data and json.loads(record.response_data) else record.replaced(response_data="")
        )


@caught_by("answers_come_back_to_the_character")
class AnswersAreReadAndWrittenAnew(HonestLayer):
    def stored(self, record):
        data = record.response_data
        return record.replaced(response_data=data and json.dumps(json.loads(data), sort_keys=True))


@caught_by("a_large_answer_comes_back_whole")
class AnswersAreCutOff(HonestLayer):
    def stored(self, record):
        return record.replaced(response_data=record.response_data[:65_535])


@caught_by(
    "the_payload_hash_is_kept_through_completion",
    "the_owner_completes_its_record",
    "interleaved_calls_of_two_keys_keep_their_own",
)
class CompletionDropsThePayloadHash(HonestLayer):
    def outcome(self, standing, record):
        return record.replaced(payload_hash="")


@caught_by("another_payload_under_the_same_key_is_refused")
class NoPayloadHashIsStored(HonestLayer):
    def stored(self, record):
        return record.replaced(payload_hash="")


@caught_by("types_stand_beside_the_answer", "falsy_answers_replay_equal")
class TypesAreNotStored(HonestLayer):
    def stored(self, record):
        return record.replaced(types="")


@caught_by("types_stand_beside_the_answer")
class LongTypesAreCutOff(HonestLayer):
    def stored(self, record):
        return record.replaced(types=record.types[:255])


@caught_by("a_long_owner_counts_to_its_end")
class LongOwnersAreCutOff(HonestLayer):
    def stored(self, record):
        return record.replaced(owner=record.owner and record.owner[:64])


@caught_by("a_long_owner_counts_to_its_end")
class OwnersAreComparedWithoutCase(HonestLayer):
    def is_owner(self, standing, record):
        if standing is None or not standing.owner or not record.owner:
            return False
        return standing.owner.lower() == record.owner.lower()


@caught_by("keys_are_kept_apart", "interleaved_calls_of_two_keys_keep_their_own")
class OneKeyForAll(HonestLayer):
    def key(self, idempotency_key):
        return "key"


@caught_by("keys_are_kept_apart")
class KeysAreComparedWithoutCase(HonestLayer):
    def key(self, idempotency_key):
        return idempotency_key.lower()


@caught_by("keys_are_kept_apart")
class LongKeysAreCutOff(HonestLayer):
    def key(self, idempotency_key):
        return idempotency_key[:255]


@caught_by("interleaved_calls_of_two_keys_keep_their_own", "rivals_of_different_keys_do_not_hinder_each_other")
class TheLayerRemembersTheCall(HonestLayer):
    payload_hash = ""

    def _put_record(self, data_record):
        self.payload_hash = data_record.payload_hash
        super()._put_record(data_record)

    def outcome(self, standing, record):
        return record.replaced(payload_hash=self.payload_hash)

    def pause(self):
        time.sleep(0.0001)


@caught_by("every_layer_object_on_a_store_sees_the_same")
class ReadsAreCached(HonestLayer):
    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.cached = {}

    def _get_record(self, idempotency_key):
        if idempotency_key not in self.cached:
            self.cached[idempotency_key] = super()._get_record(idempotency_key)
        return self.cached[idempotency_key]

    def _put_record(self, data_record):
        self.cached.pop(data_record.idempotency_key, None)
        super()._put_record(data_record)

    def _update_record(self, data_record):
        self.cached.pop(data_record.idempotency_key, None)
        super()._update_record(data_record)

    def _delete_record(self, data_record):
        self.cached.pop(data_record.idempotency_key, None)
        super()._delete_record(data_record)


@caught_by("a_peek_tells_nothing_else_than_a_read")
class PeeksTellWhatWasWrittenHere(PeekingLayer):
    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.written = {}

    def stored(self, record):
        self.written[record.idempotency_key] = record
        return record

    def _peek_record(self, idempotency_key):
        return self.written.get(idempotency_key)


# --- watches ---------------------------------------------------------------------------------------------------------


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


# --- whole calls -----------------------------------------------------------------------------------------------------


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


# --- many at once ----------------------------------------------------------------------------------------------------


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
