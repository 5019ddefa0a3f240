"""Monte-Carlo tree search over the steps of completions, by PUCT; plain sampling is the search that never descends.

DeepSeek-R1's authors tried a search "inspired by AlphaGo and AlphaZero" and report it among what did not work (arXiv
2501.12948, section 4.2): this is for comparisons. A node is the beginning of a completion, a child one step more. A
visit samples whole completions from a node: their first steps are its children, what they are worth their children's
first value (Coulom 2006; Kocsis and Szepesvari 2006). From a node the search goes down to the child with the largest
Q + c P sqrt(N) / (1 + n) (Silver et al. 2017), where P is the child's share of the steps sampled there; one more arm,
with the node's own value, stands for sampling more steps there, so that no node is ever final.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from r1mega.data.steps import first_step
from r1mega.record import Completion, SampleRequest
from r1mega.rollout.seeding import sample_seed

type Complete = Callable[[Sequence[SampleRequest]], Sequence[Completion]]
type Value = Callable[[Sequence[tuple[int, "Finding"]]], Sequence[float]]
"""(number of the problem, what was found) -> worth in [0, 1]."""


@dataclass(frozen=True)
class SearchSettings:
    budget: int
    """Generated tokens a problem; the visit that passes it is the last, and part of it passes it."""
    max_tokens: int
    """Of one completion."""
    ends_step: frozenset[int]
    """Tokens that a step ends with."""
    branches: int = 4
    """Completions a visit samples."""
    exploration: float = 1.0
    """c of PUCT."""
    descend: bool = True
    """False: every visit is to the root, which is plain sampling."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One whole completion that a visit found."""

    token_ids: tuple[int, ...]
    """From the prompt's end, those of the node it was sampled from included; at most max_tokens."""
    depth: int
    """Steps that were there before it was sampled."""
    generated: int
    """Tokens of the problem so far, this completion's included."""


@dataclass
class Node:
    """The beginning of a completion. `visits` counts completions sampled below it, `worth` sums what they are worth."""

    prefix: tuple[int, ...]
    parent: "Node | None" = None
    is_end: bool = False
    visits: int = 0
    worth: float = 0.0
    sampled: int = 0
    """Completions sampled from this very node."""
    begun: int = 0
    """Of those sampled from its parent, how many begin with it."""
    children: dict[tuple[int, ...], "Node"] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.worth / self.visits if self.visits else 0.0

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass
class Tree:
    """What is known of one problem."""

    prompt: tuple[int, ...]
    key: str
    root: Node = field(default_factory=lambda: Node(()))
    generated: int = 0
    found: list[Finding] = field(default_factory=list)
    worth: list[float] = field(default_factory=list)


def search(
    problems: Sequence[tuple[str, tuple[int, ...]]], settings: SearchSettings, complete: Complete, value: Value,
    agree: Callable[[bool], bool] = bool,
) -> list[Tree]:
    """Search all problems, (key, prompt) pairs, side by side: a round is one visit to each that has budget left.

    `agree`: whether anyone who must call `complete` at the same time goes on. Depends on the problem, its key, the
    settings and what `complete` and `value` say of it, not on its neighbours.
    """
    trees = [Tree(prompt, key) for key, prompt in problems]
    while agree(any(tree.generated < settings.budget for tree in trees)):
        visited = [(number, tree, choose(tree.root, settings)) for number, tree in enumerate(trees)
                   if tree.generated < settings.budget]
        requests = [SampleRequest(tree.prompt + node.prefix,
                                  sample_seed(settings.seed, 0, tree.key, len(tree.found) + index))
                    for _, tree, node in visited for index in range(settings.branches)]
        completions = iter(complete(requests))
        new = [(number, tree, node, _finding(tree, node, next(completions), settings))
               for number, tree, node in visited for _ in range(settings.branches)]
        for (_, tree, node, finding), worth in zip(new, value([(one[0], one[3]) for one in new]), strict=True):
            tree.worth.append(worth)
            _grow(node, finding.token_ids[len(node.prefix):], worth, settings)
    return trees


def choose(root: Node, settings: SearchSettings) -> Node:
    """The node to sample from."""
    node = root
    while settings.descend and node.visits:
        open_children = [child for child in node.children.values() if not child.is_end]
        best = max(open_children, key=lambda child: puct(node, child, settings.exploration), default=None)
        share = 1 / (1 + len(node.children))
        more = node.mean + settings.exploration * share * math.sqrt(node.visits) / (1 + node.sampled)
        if best is None or more > puct(node, best, settings.exploration):
            break
        node = best
    return node


def puct(node: Node, child: Node, exploration: float) -> float:
    """Q + c P sqrt(N) / (1 + n)."""
    prior = child.begun / node.sampled
    return child.mean + exploration * prior * math.sqrt(node.visits) / (1 + child.visits)


def _finding(tree: Tree, node: Node, completion: Completion, settings: SearchSettings) -> Finding:
    tree.generated += len(completion.token_ids)
    token_ids = (node.prefix + tuple(completion.token_ids))[:settings.max_tokens]
    tree.found.append(Finding(token_ids, node.depth, tree.generated))
    return tree.found[-1]


def _grow(node: Node, new_ids: tuple[int, ...], worth: float, settings: SearchSettings) -> None:
    """The first step of what was sampled from `node` becomes its child; the worth counts for all above."""
    node.sampled += 1
    end = first_step(new_ids, settings.ends_step)
    step = new_ids[:end]
    child = node.children.setdefault(step, Node(node.prefix + step, node, is_end=end == len(new_ids)))
    child.begun += 1
    above: Node | None = child
    while above is not None:
        above.visits += 1
        above.worth += worth
        above = above.parent
