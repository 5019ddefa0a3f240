"""The majority over parsed answers."""

from r1mega.algorithm.vote import Winner, answer_classes, majority


def equal(pairs: set[tuple[int, int]]):
    return lambda i, j: (i, j) in pairs


def test_equal_answers_in_different_forms_count_together():
    answers = ["1/2", "3", "0.5", "3", "50%"]
    classes = answer_classes(answers, equal({(0, 2), (0, 4)}))
    assert classes == [0, 1, 0, 1, 0]
    assert majority(classes) == Winner(0, 3)
    # Without the equality the two 3s would have won.
    assert majority(answer_classes(answers, equal(set()))) == Winner(1, 2)


def test_of_a_tie_the_answer_sampled_first_wins_wherever_it_comes_again():
    assert majority([0, 1, 1, 0]) == Winner(0, 2)
    assert majority([0, 1, 2, 2, 1]) == Winner(1, 2)


def test_samples_without_an_answer_have_no_vote():
    classes = answer_classes([None, None, None, "7"], equal(set()))
    assert classes == [None, None, None, 3] and majority(classes) == Winner(3, 1)
    assert majority([None, None]) is None and majority([]) is None


def test_an_equality_that_is_not_transitive_joins_the_first_class_it_fits():
    # a = b and b = c, but not a = c: c is compared with a, the first of its class, alone.
    assert answer_classes(["a", "b", "c"], equal({(0, 1), (1, 2)})) == [0, 0, 2]
