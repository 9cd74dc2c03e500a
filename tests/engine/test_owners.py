"""Each front end gets its own deltas, and a step's figures count once."""

from octavo.engine.messages import SequenceDelta, StepResult
from octavo.engine.owners import Owners, only_deltas

A, B = b"a", b"b"


def step(*deltas: SequenceDelta) -> StepResult:
    return StepResult(deltas, finished_at=5.0, step_seconds=0.1, num_generation_tokens=3)


def owners_of(**pairs: bytes) -> Owners:
    owners = Owners()
    for request_id, owner in pairs.items():
        owners.add(request_id, owner)
    return owners


def test_deltas_go_to_their_owners_and_figures_to_one_of_them() -> None:
    owners = owners_of(one=A, two=B, three=A)
    deltas = [SequenceDelta(name, (7,)) for name in ("one", "two", "three")]
    shares = dict(owners.shares(step(*deltas)))
    assert shares[A].deltas == (deltas[0], deltas[2])
    assert shares[B].deltas == (deltas[1],)
    assert sum(share.num_generation_tokens for share in shares.values()) == 3
    assert sum(share.step_seconds for share in shares.values()) == 0.1
    assert {share.finished_at for share in shares.values()} == {5.0}


def test_a_single_owner_gets_the_result_as_it_is() -> None:
    result = step(SequenceDelta("one", (7,)))
    ((owner, share),) = owners_of(one=A, two=B).shares(result)
    assert owner == A and share is result


def test_what_has_ended_is_forgotten() -> None:
    owners = owners_of(one=A, two=A)
    list(owners.shares(step(SequenceDelta("one", (7,), finish_reason="stop"))))
    assert owners.remove_owner(A) == ["two"]
    assert owners.remove_owner(A) == []


def test_figures_of_a_step_without_deltas_are_not_lost() -> None:
    """A chunk of a long prompt; or everybody was cancelled while the step ran."""
    owners = owners_of(one=A, two=B)
    assert list(owners.shares(step())) == [(B, step())]
    owners.remove("one")
    owners.remove("two")
    assert list(owners.shares(step())) == [(B, step())]
    owners.remove_owner(B)
    assert list(owners.shares(step())) == []


def test_nothing_is_sent_for_nothing() -> None:
    assert list(owners_of(one=A).shares(only_deltas(()))) == []
