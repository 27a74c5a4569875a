"""Dead letters: what a meter fold refuses leaves as it came, with the reason and its place in Kafka."""

from metering.events import Item, Refusal
from metering.records import DeadLetter, encode, key, version
from metering.state.fold import Chunk, Output
from metering.state.meter_rules import MeterRules

HEAVY_LETTER_BYTES = 4 << 20
LETTER_PAYLOAD_BYTES = 6 << 20  # a longer record stays whole only at its place in Kafka


class DeadLetters:
    """The dead letters of one partition since the last checkpoint."""

    def __init__(self, rules: MeterRules) -> None:
        self._rules = rules
        self._letters: list[Output] = []
        self._bytes = 0

    @property
    def is_heavy(self) -> bool:
        """Whether they should be made durable before more is folded."""
        return self._bytes > HEAVY_LETTER_BYTES

    def add(self, item: Item, refusal: Refusal, chunk: Chunk, revision: int) -> None:
        """Keep what was refused, under the catalog revision that decided."""
        letter = self._letter(item, refusal, chunk, revision)
        self._letters.append(letter)
        self._bytes += len(letter.value or b"")

    def take(self) -> list[Output]:
        """Those since the last call."""
        taken, self._letters, self._bytes = self._letters, [], 0
        return taken

    def _letter(self, item: Item, refusal: Refusal, chunk: Chunk, revision: int) -> Output:
        rules, offset, detail = self._rules, chunk.offsets[item.value], refusal.detail
        if len(item.raw) > LETTER_PAYLOAD_BYTES:
            detail += f" (Only the first {LETTER_PAYLOAD_BYTES:,} of {len(item.raw):,} bytes are kept.)"
        letter = DeadLetter(
            topic=rules.events_topic,
            partition=rules.partition,
            offset=offset,
            index=item.place,
            reason=refusal.reason,
            detail=detail,
            customer=refusal.customer,
            event_id=refusal.event_id,
            event_type=refusal.event_type,
            appended=chunk.appended,
            payload=item.raw[:LETTER_PAYLOAD_BYTES],
            version=str(version(rules.epoch, offset, revision)),
        )
        place = key(rules.events_topic, rules.partition, offset, item.place)
        return Output(rules.rejected_topic, place, encode(letter))
