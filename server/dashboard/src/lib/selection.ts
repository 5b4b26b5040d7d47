/** What clicks on checkboxes make of a selection. */
import type { Selection } from './view';

/** The selection with several runs in it or not. */
export function withRuns(selection: Selection, runs: Iterable<string>, selected: boolean): Selection {
  const changed = new Set(runs);
  const listed = selection.kind === 'some' ? selection.runs : selection.but;
  const add = selected === (selection.kind === 'some');
  const there = new Set(listed);
  const next = add
    ? [...listed, ...[...changed].filter((run) => !there.has(run))]
    : listed.filter((run) => !changed.has(run));
  if (next.length === listed.length) return selection;
  return selection.kind === 'some' ? { kind: 'some', runs: next } : { kind: 'all', but: next };
}

/** The items from one to another, both included, whichever comes first; without the first one: the other alone. */
export function between(items: readonly string[], from: string | null, to: string): readonly string[] {
  const end = items.indexOf(to);
  const start = from === null ? -1 : items.indexOf(from);
  if (end < 0) return [];
  if (start < 0) return [to];
  return items.slice(Math.min(start, end), Math.max(start, end) + 1);
}

export type Share = 'none' | 'some' | 'all';

/** How many of these runs are selected. */
export function shareOf(runs: readonly string[], selected: (run: string) => boolean): Share {
  let count = 0;
  for (const run of runs) if (selected(run)) count++;
  return count === 0 ? 'none' : count === runs.length ? 'all' : 'some';
}
