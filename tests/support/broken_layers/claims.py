"""Bugs in who may claim a key: a free one, a taken one, or one whose record it takes over."""

from __future__ import annotations

import asyncio
import contextlib
import time

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, STORED_STATUSES, DataRecord
from support.broken_layers.planted import caught_by
from support.honest_layers import HonestLayer

# --- claims -----------------------------------------------------------------------------------------------------------


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


# --- takeovers --------------------------------------------------------------------------------------------------------


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


@caught_by("a_running_record_refuses_claims_and_is_told", "an_outcome_refuses_claims_and_is_told")
class OwnRecordsAreTakenForAWonClaim(HonestLayer):
    """As a reply that was lost would have it; but a durable execution has one owner in all its invocations."""

    def _put_record(self, data_record):
        try:
            super()._put_record(data_record)
        except IdempotencyItemAlreadyExistsError as refusal:
            if refusal.old_data_record.owner != data_record.owner:
                raise
