"""A hundred kills: nothing lost, nothing doubled, the same bits."""

import kills
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    whole, killed = kills.run(tmp_path_factory.mktemp("kills"))
    print(kills.table(whole, killed))
    return whole, killed


def test_a_hundred_passes_were_killed_eighty_between_batches_and_ten_in_writing(found):
    _, killed = found
    assert len(killed) == 100
    spread = [kill.batch for kill in killed if kill.when == "spread"]
    assert sum(0 < batch < kills.BATCHES for batch in spread) >= 80
    assert sum(kill.when != "spread" for kill in killed) == 10
    thirds = {3 * batch // (kills.BATCHES + 1) for batch in spread}
    assert thirds == {0, 1, 2}


def test_they_went_on_where_they_were(found):
    _, killed = found
    assert sum(kill.resumed > 0 for kill in killed) >= 80
    # A checkpoint may be written, and the process killed, before the batch is in the log.
    assert all(kill.resumed <= kill.batch + 1 for kill in killed if kill.when == "spread")


def test_no_batch_was_lost_or_counted_twice(found):
    whole, killed = found
    assert {kill.read for kill in killed} == {kills.BATCHES}
    assert {kill.count for kill in killed} == {whole[True]["count"]}


def test_all_results_have_the_bits_of_the_undisturbed_pass(found):
    whole, killed = found
    assert all(kill.bits == whole[kill.exact]["bits"] for kill in killed)
    assert {kill.exact for kill in killed} == {True, False}
