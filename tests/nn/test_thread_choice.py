"""Which number of threads the engine settles on."""

from lrc.nn.engine.thread_choice import ThreadChoice


def choices(choice, seconds, count):
    made = []
    for _ in range(count):
        made.append(choice.choose())
        choice.note(made[-1], seconds[made[-1]])
    return made


def test_one_thread_is_never_questioned():
    assert set(choices(ThreadChoice(1), {1: 1.0}, 50)) == {1}


def test_all_threads_come_first_and_stay_where_they_are_faster():
    made = choices(ThreadChoice(2), {1: 1.0, 2: 0.6}, 600)
    assert made[:2] == [2, 1]
    assert made.count(1) < 12


def test_a_busy_machine_gets_one_thread():
    made = choices(ThreadChoice(4), {1: 1.0, 4: 3.0}, 600)
    assert made.count(4) < 12


def test_the_choice_follows_the_machine():
    choice = ThreadChoice(2)
    choices(choice, {1: 1.0, 2: 3.0}, 300)
    assert choices(choice, {1: 1.0, 2: 0.6}, 600)[-1] == 2
    assert choices(choice, {1: 1.0, 2: 3.0}, 600)[-1] == 1


def test_one_accident_changes_nothing():
    choice = ThreadChoice(2)
    choices(choice, {1: 1.0, 2: 0.6}, 40)
    choice.note(2, 50.0)
    assert set(choices(choice, {1: 1.0, 2: 0.6}, 5)) == {2}
