/** What a sweep is looked at by: which columns there are to choose from, and which of them to begin with. */
import type { ColumnsAnswer } from '../api/client';
import { isMissing, numberOf } from './sweepaxis';
import { columnOf } from './columns';
import { quotedIfNeeded } from './expression';
import { valueText } from './numbers';
import type { Sweep } from './view';

/** A run with its values by column. */
export interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface Choice {
  readonly group: string;
  readonly columns: readonly string[];
}

/** What is to be seen: as the view says, and as one begins with where it says nothing. */
export interface Wanted extends Beginning {
  readonly x: string | null;
  readonly y: string | null;
  readonly tint: string | null;
}

export interface Beginning {
  readonly axes: readonly string[];
  readonly metric: string | null;
  /** Axes that are better read on a logarithmic scale. */
  readonly log: readonly string[];
}

const FIGURES = [
  ['Last value', 'last'],
  ['Least value', 'min'],
  ['Greatest value', 'max'],
] as const;
/** Axes that one begins with, the metric's besides. */
const AXES_MAX = 5;
/** Of so many decades, a logarithmic scale shows more. */
const DECADES = 1.5;
const LOSS = /loss|error|perplexity|wer$/i;
const QUALITY = /acc|auc|f1|bleu|score|reward|map$/i;
const HELD_OUT = /(^|[^a-z])(val|valid|eval|test|dev)/i;

/** All columns that can be chosen, by kind. */
export function choices(answer: ColumnsAnswer): Choice[] {
  const tags = answer.tags.map(({ tag }) => quotedIfNeeded(tag));
  return [
    { group: 'Config', columns: answer.config.map(({ column }) => column) },
    { group: 'Summary', columns: answer.summary.map(({ column }) => column) },
    ...FIGURES.map(([group, figure]) => ({ group, columns: tags.map((tag) => `${figure}.${tag}`) })),
    { group: 'Counters', columns: answer.counters.map(({ column }) => column) },
    { group: 'Run', columns: ['status', 'owner', 'group', 'attempts', 'age', 'created_at'] },
  ].filter(({ columns }) => columns.length);
}

/** Config keys that differ among the runs, most runs first, and the metric that a sweep is most likely about. */
export function beginning(answer: ColumnsAnswer): Beginning {
  const keys = answer.config
    .filter(({ distinct, sorts }) => (distinct ?? 0) > 1 && !('list' in sorts || 'object' in sorts))
    .sort((one, other) => other.runs - one.runs || dull(one) - dull(other))
    .slice(0, AXES_MAX);
  const log = keys.filter(({ least, greatest }) => wide(Number(least), Number(greatest)));
  return {
    axes: keys.map(({ column }) => column),
    metric: metricOf(answer),
    log: log.map(({ column }) => column),
  };
}

/** A column as it stands above an axis: config.lr → lr, min.loss → min loss. */
export function titleOf(column: string): string {
  const { label, detail } = columnOf(column);
  return detail ? `${detail} ${label}` : label;
}

/** A value as it is told; `none`: what stands for nothing. */
export function toldValue(value: unknown, none: string): string {
  if (isMissing(value)) return none;
  const number = numberOf(value);
  if (number !== null) return valueText(number);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The view's columns, filled up. Whoever chose axes, chose their scales, too. */
export function wanted(view: Sweep, begin: Beginning): Wanted {
  const chosen = view.axes.length > 0 || view.x !== null;
  const axes = view.axes.length ? view.axes : begin.axes;
  const metric = view.metric ?? begin.metric;
  return {
    axes,
    metric,
    log: chosen ? view.log : begin.log,
    x: view.x ?? axes[0] ?? null,
    y: view.y ?? metric,
    tint: view.tint ?? axes[1] ?? metric,
  };
}

/** A loss at its least or a quality at its greatest, on held-out data rather than on that of the training. */
function metricOf(answer: ColumnsAnswer): string | null {
  const likely = answer.tags
    .map(({ tag, runs }) => ({ tag, rank: rankOf(tag), runs }))
    .sort((one, other) => other.rank - one.rank || other.runs - one.runs);
  const best = likely[0];
  if (!best) return answer.summary[0]?.column ?? null;
  const figure = LOSS.test(best.tag) ? 'min' : QUALITY.test(best.tag) ? 'max' : 'last';
  return `${figure}.${quotedIfNeeded(best.tag)}`;
}

/** Rows from the best to the worst value of a metric; then those that are NaN, last those that have none. */
export function ranked(rows: readonly Row[], metric: string | null): Row[] {
  if (metric === null) return [...rows];
  const down = metric.startsWith('max.') || (!metric.startsWith('min.') && QUALITY.test(metric));
  const values = new Map(rows.map((row) => [row, numberOf(row.values[metric])]));
  const rank = (value: number | null) => (value === null ? 2 : Number.isNaN(value) ? 1 : 0);
  return [...rows].sort((one, other) => {
    const [a, b] = [values.get(one)!, values.get(other)!];
    if (rank(a) || rank(b)) return rank(a) - rank(b);
    return a === b ? 0 : a! < b! === down ? 1 : -1;
  });
}

function rankOf(tag: string): number {
  return (LOSS.test(tag) ? 2 : QUALITY.test(tag) ? 1 : 0) * (HELD_OUT.test(tag) ? 3 : 1);
}

/** Numbers tell most, seeds least. */
function dull({ column, sorts }: ColumnsAnswer['config'][number]): number {
  return /seed/i.test(column) ? 2 : 'number' in sorts ? 0 : 1;
}

function wide(least: number, greatest: number): boolean {
  return least > 0 && Math.log10(greatest / least) >= DECADES;
}
