"""Bugs in who may complete, release or renew a record, and in what that leaves."""

from __future__ import annotations

import time

from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.broken_layers.planted import caught_by
from support.honest_layers import HonestLayer


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


@caught_by("a_release_removes_no_takeover", "a_renewal_and_a_takeover_never_both_win")
class OwnersLookBeforeTheyWrite(HonestLayer):
    """As over a store that compares when it is claimed, and only then."""

    def _delete_record(self, data_record):
        if self.may_release(self.records.get(data_record.idempotency_key), data_record):
            time.sleep(0.001)
            self.records.pop(data_record.idempotency_key, None)

    def _renew_record(self, data_record):
        if not self.may_renew(self.records.get(data_record.idempotency_key), data_record):
            raise IdempotencyLeaseLostError("lost")
        time.sleep(0.001)
        self.records[data_record.idempotency_key] = data_record
