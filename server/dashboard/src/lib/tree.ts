/** Projects as a tree, from the parts of runs' names; and which runs are ranks of others. */
import { compareTexts } from './order';

export interface Node {
  /** The parts up to here: what `project` asks for. */
  readonly path: string;
  /** The last of them. */
  readonly label: string;
  /** Runs below it, at any depth; ranks are counted with their run. */
  readonly count: number;
  readonly children: readonly Node[];
}

/** A node as it is shown, in the order of lines. */
export interface TreeLine {
  readonly node: Node;
  /** From 1. */
  readonly level: number;
  readonly open: boolean;
}

/** Levels that are told apart: what is deeper belongs to the last of them. */
const LEVELS_MAX = 8;
const RANK = /^(.+)\/rank\d+$/s;

/** The run that a run named `<run>/rank07` is a rank of; null: it is none. */
export function runOfRank(name: string): string | null {
  return RANK.exec(name)?.[1] ?? null;
}

/** The runs of these names, ranks as their run; each once. */
export function runsOf(names: Iterable<string>): Set<string> {
  const runs = new Set<string>();
  for (const name of names) runs.add(runOfRank(name) ?? name);
  return runs;
}

/** The nodes of the first level, in order; a run's own name is no node. */
export function treeOf(names: Iterable<string>): Node[] {
  const root = new Branch('', '');
  for (const run of runsOf(names)) {
    const parts = run.split('/').slice(0, -1).slice(0, LEVELS_MAX);
    let branch = root;
    for (const part of parts) (branch = branch.child(part)).count++;
  }
  return root.nodes();
}

class Branch {
  count = 0;
  private readonly children = new Map<string, Branch>();

  constructor(
    private readonly path: string,
    private readonly label: string,
  ) {}

  child(label: string): Branch {
    const path = this.path ? `${this.path}/${label}` : label;
    let child = this.children.get(label);
    if (!child) this.children.set(label, (child = new Branch(path, label)));
    return child;
  }

  nodes(): Node[] {
    const branches = [...this.children.values()].sort((a, b) => compareTexts(a.label, b.label));
    return branches.map((b) => ({ path: b.path, label: b.label, count: b.count, children: b.nodes() }));
  }
}

/** The nodes that are seen if only some are open. */
export function treeLines(nodes: readonly Node[], open: ReadonlySet<string>, level = 1): TreeLine[] {
  return nodes.flatMap((node) => {
    const is = node.children.length > 0 && open.has(node.path);
    return [{ node, level, open: is }, ...(is ? treeLines(node.children, open, level + 1) : [])];
  });
}

/** The paths above a path: those that have to be open for it to be seen. */
export function above(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/'));
}
