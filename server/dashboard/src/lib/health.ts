/** How runs do: counters and where they are going, who is lost or stalled, what was refused and what to do about it. */
import type { ColumnsAnswer, RefusedPage, RunView } from '../api/client';
import { numberOf } from './sweepaxis';
import { etaS } from './numbers';
import type { Row } from './sweep';
import { SHOWS, type Show } from './view';

/** Columns of a run's health besides those of its counters. */
const COLUMNS = [
  'status',
  'last_seen',
  'attempts',
  'refused',
  'alerts',
  'alerted_at',
  'stalled',
  'incidents',
] as const;
/** Three columns each; a table has a hundred at most. */
const COUNTERS_MAX = 24;

export interface Standing {
  readonly name: string;
  readonly title: string;
  readonly status: string;
  /** Counters that do not move although they are reported. */
  readonly stalled: readonly string[];
  /** Kinds of what watchdogs found, and is not over yet. */
  readonly incidents: readonly string[];
  /** Seconds since the epoch. */
  readonly lastSeen: number | null;
  readonly attempts: number;
  readonly refused: number;
  readonly alerts: number;
  readonly counters: readonly Bar[];
}

/** A counter's way. rate: steps per second, null unless it moves; share: from 0 to 1, null if its end is not known. */
export interface Bar {
  readonly counter: string;
  readonly value: number | null;
  readonly total: number | null;
  readonly rate: number | null;
  readonly share: number | null;
  /** Seconds until it is there; null if nobody can say. */
  readonly eta: number | null;
}

/** The names of counters, as many as are shown, those of most runs. */
export function countersOf(answer: ColumnsAnswer): string[] {
  return [...answer.counters]
    .sort((one, other) => other.runs - one.runs)
    .slice(0, COUNTERS_MAX)
    .map(({ column }) => column.slice('counters.'.length));
}

/** What to ask of a table; counters as `countersOf` gives them. */
export function healthColumns(counters: readonly string[]): string[] {
  const each = counters.flatMap((counter) => [
    `counters.${counter}`,
    `totals.${counter}`,
    `rates.${counter}`,
  ]);
  return [...COLUMNS, ...each];
}

/** How a run of such a table stands. */
export function standingOf({ name, values }: Row, counters: readonly string[]): Standing {
  const status = String(values['status'] ?? '');
  const bars = counters.map((counter) => barOf(counter, values, status === 'running'));
  return {
    name,
    title: String(values['display_name'] ?? name),
    status,
    stalled: namesIn(values['stalled']),
    incidents: namesIn(values['incidents']),
    lastSeen: numberOf(values['last_seen']),
    attempts: numberOf(values['attempts']) ?? 0,
    refused: numberOf(values['refused']) ?? 0,
    alerts: numberOf(values['alerts']) ?? 0,
    counters: bars.filter(({ value, total }) => value !== null || total !== null),
  };
}

/** The texts of a cell that lists some. */
export function namesIn(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function barOf(counter: string, values: Row['values'], running: boolean): Bar {
  const value = numberOf(values[`counters.${counter}`]);
  const total = numberOf(values[`totals.${counter}`]);
  const rate = running ? numberOf(values[`rates.${counter}`]) : null;
  const share = total !== null && total > 0 ? Math.min(1, Math.max(0, (value ?? 0) / total)) : null;
  return { counter, value, total, rate, share, eta: etaS(value, total, rate) };
}

/** Whether a run is one of those that are asked for. */
export function isShown(run: Standing, show: Show, selected: (run: string) => boolean): boolean {
  if (show === 'selected') return selected(run.name);
  if (show === 'stalled' || show === 'incidents') return run[show].length > 0;
  if (show === 'alerts' || show === 'refused') return run[show] > 0;
  return run.status === show;
}

/** How many runs are in each state; a stalled one is running, too. */
export function tally(runs: readonly Standing[], selected: (run: string) => boolean): Record<Show, number> {
  const counts = Object.fromEntries(SHOWS.map((show) => [show, 0])) as Record<Show, number>;
  for (const run of runs) for (const show of SHOWS) if (isShown(run, show, selected)) counts[show]++;
  return counts;
}

/** The worst first: lost, stalled, with an incident, then as they are; those last heard of before others. */
export function byUrgency(runs: readonly Standing[]): Standing[] {
  const running = ({ stalled, incidents }: Standing) => (stalled.length ? 1 : incidents.length ? 2 : 3);
  const rank = (run: Standing) =>
    run.status === 'lost' ? 0 : run.status === 'running' ? running(run) : run.status === 'failed' ? 4 : 5;
  return [...runs].sort(
    (one, other) => rank(one) - rank(other) || (other.lastSeen ?? 0) - (one.lastSeen ?? 0),
  );
}

type Refused = RefusedPage['refused'][number];
type Reason = Refused['refusal']['reason'];

export interface RefusedGroup {
  readonly reason: Reason;
  /** What happened, and what to do. */
  readonly title: string;
  readonly advice: string;
  /** Newest first. */
  readonly items: readonly Refused[];
}

const REASONS: Readonly<Record<Reason, readonly [title: string, advice: string]>> = {
  step_decreased: [
    'The step went back',
    'A counter only goes forward. If the job was restarted from a checkpoint, let it say where it goes on: next_steps in init, or run.rewind(…).',
  ],
  tag_repeated: [
    'A tag came twice at one step, with another value',
    'Is the counter incremented once per update, before anything is reported? Or do two processes report the same tag?',
  ],
  tag_of_other_counter: [
    'The tag belongs to another counter',
    'A tag is counted by one counter. Report it against that one, or give the figure another name.',
  ],
  tag_of_other_kind: [
    'The tag is of another kind',
    'A tag holds scalars, or images, or texts, not several of them. Give it another name.',
  ],
  counter_taken: [
    'Another process holds the counter',
    'One process moves a counter. Give each process a run or a counter of its own; a job that goes on in another’s place continues the run (resume="continue").',
  ],
  too_many_tags: [
    'There are too many tags',
    'Names that are made up as training goes, with a step or a file in them, make a tag each. Leave that part out.',
  ],
  too_many_counters: [
    'There are too many counters',
    'A run has a few counters, such as global_step and epoch. Names that are made up as training goes make one each.',
  ],
};

/** What was refused, by reason; the reason that came last is first. items: newest first. */
export function refusedGroups(items: readonly Refused[]): RefusedGroup[] {
  const groups = new Map<Reason, Refused[]>();
  for (const item of items) {
    const group = groups.get(item.refusal.reason);
    if (group) group.push(item);
    else groups.set(item.refusal.reason, [item]);
  }
  return [...groups].map(([reason, items]) => {
    const [title, advice] = REASONS[reason] ?? [reason, ''];
    return { reason, title, advice, items };
  });
}

type Counter = RunView['counters'][string];
type Attempt = Counter['attempts'][number];

/** An attempt on a common line of steps, in shares of it. hidden: what later attempts superseded, behind what is seen. */
export interface Stretch {
  readonly attempt: Attempt;
  readonly left: number;
  readonly seen: number;
  readonly hidden: number;
}

/** The attempts of a counter side by side, from the least step of any to the greatest. */
export function stretches({ attempts, total }: Counter): Stretch[] {
  const from = Math.min(...attempts.map(({ start }) => start));
  const to = Math.max(total ?? from, ...attempts.map(({ last_step, start }) => last_step ?? start));
  const share = (steps: number) => (to > from ? Math.max(0, steps) / (to - from) : 0);
  return attempts.map((attempt) => {
    const { start, last_step: last, limit } = attempt;
    if (last === null) return { attempt, left: share(start - from), seen: 0, hidden: 0 };
    const seenTo = limit === null ? last : Math.max(start, Math.min(last, limit));
    if (to === from) return { attempt, left: 0, seen: 1, hidden: 0 };
    return { attempt, left: share(start - from), seen: share(seenTo - start), hidden: share(last - seenTo) };
  });
}
