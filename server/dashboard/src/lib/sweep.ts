/** What a sweep is looked at by: which columns there are to choose from, and which of them to begin with. */
import type { ColumnsAnswer } from '../api/client';
import { quotedIfNeeded } from './expression';

/** A run with its values by column. */
export interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface Choice {
  readonly group: string;
  readonly columns: readonly string[];
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
    .sort((one, other) => other.runs - one.runs || dull(one.column) - dull(other.column))
    .slice(0, AXES_MAX);
  const log = keys.filter(({ least, greatest }) => wide(Number(least), Number(greatest)));
  return {
    axes: keys.map(({ column }) => column),
    metric: metricOf(answer),
    log: log.map(({ column }) => column),
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

function rankOf(tag: string): number {
  return (LOSS.test(tag) ? 2 : QUALITY.test(tag) ? 1 : 0) * (HELD_OUT.test(tag) ? 3 : 1);
}

/** Seeds tell little. */
function dull(column: string): number {
  return /seed/i.test(column) ? 1 : 0;
}

function wide(least: number, greatest: number): boolean {
  return least > 0 && Math.log10(greatest / least) >= DECADES;
}
