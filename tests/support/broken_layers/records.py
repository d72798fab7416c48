"""Bugs in what is stored and read: answers, types, payload hashes, owners and keys."""

from __future__ import annotations

import json
import time

from support.broken_layers.planted import caught_by
from support.honest_layers import HonestLayer, PeekingLayer


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


@caught_by("an_answer_that_is_too_large_is_refused_as_such")
class AnswersThatAreTooLargeAreAnError(HonestLayer):
    def stored(self, record):
        if len(record.response_data) > 1_000_000:
            raise ValueError("object too large for cache")
        return record


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
