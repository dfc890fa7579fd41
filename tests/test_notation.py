"""``str``, ``repr`` and `gdtuo.parse` are each other's inverses; a bad text is pointed at."""

import hypothesis
import pytest

import gdtuo
from gdtuo import GdtuoError, parse
from tests.rules_table import BY_RULE, ROWS, towers

NAMES = {row.name: row.rule for row in ROWS}


@hypothesis.settings(max_examples=300)
@hypothesis.given(towers(min_height=0))
def test_round_trips(rule):
    assert parse(str(rule)) == rule
    assert str(parse(str(rule))) == str(rule)
    assert eval(repr(rule), dict(NAMES)) == rule
    assert hash(parse(str(rule))) == hash(rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("SGD", gdtuo.SGD()),
        ("SGD(-1e-05)", gdtuo.SGD(-1e-5)),
        ("Adam / SGD(1e-05)", gdtuo.Adam(optimizer=gdtuo.SGD(1e-5))),
        ("Adam^lr / SGD(1e-05)", gdtuo.Adam(learn=["lr"], optimizer=gdtuo.SGD(1e-5))),
        (
            "Adam^{lr,beta2}(0.01, eps=1e-06) / SGD",
            gdtuo.Adam(0.01, eps=1e-6, learn=("beta2", "lr"), optimizer=gdtuo.SGD()),
        ),
        ("SGD^{}(0.5) / Adam", gdtuo.SGD(0.5, learn=(), optimizer=gdtuo.Adam())),
        (
            "SGD(0.1, momentum=0.9) / SGD({lr: 1e-05, momentum: 1e-06})",
            gdtuo.SGD(0.1, 0.9, optimizer=gdtuo.SGD(lr={"momentum": 1e-6, "lr": 1e-5})),
        ),
        ("AdaGrad / AdaGrad", gdtuo.AdaGrad(optimizer=gdtuo.AdaGrad())),
        ("RMSProp(0.001, gamma=0.9, eps=0.0)", gdtuo.RMSProp(0.001, 0.9, eps=0)),
        (
            "SGD(0.1, momentum=0.9, weight_decay=0.01, nesterov=True)",
            gdtuo.SGD(0.1, 0.9, weight_decay=0.01, dampening=0.0, nesterov=True),
        ),
        (
            "Lion^{lr,weight_decay} / SGD",
            gdtuo.Lion(optimizer=gdtuo.SGD(), learn=["weight_decay", "lr"]),
        ),
    ],
)
def test_one_behaviour_one_text(text, rule):
    assert str(rule) == text
    assert parse(text) == rule


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("  SGD(lr=0.5)/SGD( .5 ) ", "SGD(0.5) / SGD(0.5)"),
        ("SGD()", "SGD"),
        ("Adam(0.01,0.8,0.99)", "Adam(0.01, beta1=0.8, beta2=0.99)"),
        ("Adam^{ lr }/SGD", "Adam^lr / SGD"),
        ("Adam^{beta1, lr}/SGD", "Adam^{lr,beta1} / SGD"),
        ("SGD(1E-3) / SGD({lr:1})", "SGD(0.001) / SGD({lr: 1.0})"),
        ("SGD\n/ SGD", "SGD / SGD"),
        ("SGD(+1)", "SGD(1.0)"),
        ("SGD(nesterov=False)", "SGD"),
        ("SGD(momentum=.9,nesterov=True)", "SGD(momentum=0.9, nesterov=True)"),
    ],
)
def test_other_ways_to_write_it(written, text):
    assert str(parse(written)) == text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_defaults_are_not_written(row):
    assert str(row.rule()) == row.name == str(BY_RULE[row.rule].rule())
    assert repr(row.rule()) == f"{row.name}()"


@pytest.mark.parametrize(
    ("text", "caret", "problem"),
    [
        ("", 0, "expected the name of a rule"),
        ("   ", 3, "expected the name of a rule"),
        ("Adma / SGD", 0, r"'Adma' is no rule; the rules are .*AdaGrad, Adam, .*RMSProp, SGD"),
        ("Adam / Sdg(1e-05)", 7, "'Sdg' is no rule"),
        ("Adam / ", 7, "expected the name of a rule"),
        ("Adam SGD", 5, "expected '/' and a rule, or the end"),
        ("Adam(0.1", 8, "expected ','"),
        ("Adam(0.1 0.2)", 9, "expected ','"),
        ("Adam(0.1,)", 9, "expected a number"),
        ("Adam(lr=)", 8, "expected a number"),
        ("Adam(lr 0.1)", 8, "expected '='"),
        ("Adam(lr=high)", 8, "expected a number, True or False"),
        ("SGD(momentum=0.9, nesterov=yes)", 27, "expected a number, True or False"),
        ("SGD(momentum=0.9, nesterov=1)", 0, "nesterov=1.0 is no switch. Give True or False"),
        ("SGD(momentum=True)", 0, "momentum=True is not a number"),
        ("SGD(nesterov=True)", 0, "nesterov=True with momentum=0.0"),
        ("AdamW / SGD({lr: True})", 8, "lr.'lr'.='True' is not a number"),
        ("Lion^beta1 / SGD", 0, "which can't be learned: .* a sign"),
        ("Adam(lr=0.1, lr=0.2)", 13, "'lr' is given twice"),
        ("SGD / SGD({lr: 1, lr: 2})", 10, "a name is given twice"),
        ("Adam(optimizer=1)", 5, "'optimizer' is given twice, or can't be given here"),
        ("Adam(self=1)", 5, "'self' is given twice, or can't be given here"),
        ("Adam(beta1=0.5, 0.1)", 16, "expected name=value"),
        ("Adam^(0.1)", 5, "expected a hyperparameter"),
        ("Adam^{lr / SGD", 9, "expected ','"),
        ("Adam^lr", 0, "no meaning on the top rule"),
        ("SGD / Adam(0.1, beta1=1.5)", 6, r"beta1=1.5 is outside its domain"),
        ("SGD / Adam(0.1, beta3=0.5)", 6, "beta3"),
        ("Adam^beta3 / SGD", 0, "'beta3'.*Expected some of lr, beta1, beta2"),
        ("SGD / SGD({lr: })", 15, "expected a number"),
        ("SGD / SGD({lr 1})", 14, "expected ':'"),
        ("SGD / SGD({0.1: 1})", 11, "expected the name of a hyperparameter"),
        ("SGD / SGD({})", 6, "gives no step size"),
        ("Adam(0.1) % SGD", 10, "this character has no meaning here"),
        ("SGD(inf)", 0, "lr=inf is outside its domain"),
        ("SGD(nan)", 0, "lr=nan is outside its domain"),
        ("SGD(1e)", 5, "expected ','"),
        ("SGD(0.1, 0.2, 0.3)", 0, "positional"),
    ],
)
def test_a_bad_text_is_pointed_at(text, caret, problem):
    with pytest.raises(GdtuoError, match=problem) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert f"at character {caret + 1}:" in lines[0]
    assert f"  {text}" in lines
    assert lines[lines.index(f"  {text}") + 1] == " " * (2 + caret) + "^"
    assert lines[-1].startswith("Expected a text such as 'Adam")


@pytest.mark.parametrize("what", [None, 1, gdtuo.SGD(), b"SGD"])
def test_what_is_no_text(what):
    with pytest.raises(GdtuoError, match=r"parse takes a text such as .*, not "):
        parse(what)


@hypothesis.settings(max_examples=300)
@hypothesis.given(hypothesis.strategies.text("Adam^SGD(){}/,:=lr beta1.0e-5\n", max_size=25))
def test_any_text_is_a_tower_or_gets_the_error(text):
    try:
        rule = parse(text)
    except GdtuoError:
        return
    assert parse(str(rule)) == rule


def test_a_rule_of_ones_own_is_known():
    class Signum(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.001)
        temperature: float = gdtuo.constant(default=2.0)

        def update(self, g, state, h):
            return h.lr * (self.temperature * g).tanh(), state

    rule = Signum(0.5, temperature=3.0, optimizer=gdtuo.SGD(1e-3))
    assert str(rule) == "Signum(0.5, temperature=3.0) / SGD(0.001)"
    assert parse(str(rule)) == rule


def test_a_step_size_that_is_not_declared_first():
    class Late(gdtuo.Rule):
        beta: float = gdtuo.hyperparameter(default=0.9)
        lr: float = gdtuo.hyperparameter(default=0.1)

        def update(self, g, state, h):
            return h.lr * h.beta * g, state

    rule = Late(beta=0.3, lr=0.5)
    assert str(rule) == "Late(beta=0.3, lr=0.5)"
    assert parse(str(rule)) == rule == parse("Late(0.3, 0.5)")
