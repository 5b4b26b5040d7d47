/** Columns of the table of runs: what each is, what stands above it, and how its values read. */
import { partsOf, quotedIfNeeded, tokens } from './expression';
import { ageText, durationText, shortText, stepText, timeText, valueText } from './numbers';

export const FIGURES = ['last', 'min', 'max', 'mean', 'first', 'count', 'nonfinite'] as const;
export type Figure = (typeof FIGURES)[number];
export type Best = 'at_min' | 'at_max';

/** Columns that every run has, with what stands above them. */
export const RUN_COLUMNS: Readonly<Record<string, string>> = {
  status: 'Status',
  age: 'Created',
  idle: 'Last heard of',
  owner: 'Owner',
  group: 'Group',
  tags: 'Tags',
  notes: 'Notes',
  attempts: 'Attempts',
  refused: 'Refused',
  created_at: 'Created at',
  updated_at: 'Updated at',
  last_seen: 'Last heard of at',
  project: 'Project',
  name: 'Name',
  display_name: 'Display name',
  archived: 'Archived',
};
const TIMES = new Set([
  'created_at',
  'updated_at',
  'last_seen',
  'first_time',
  'last_time',
  'min_time',
  'max_time',
]);
const DOCUMENTS = new Set(['config', 'summary', 'provenance']);
const TEXT_CHARS_MAX = 300;

export interface Column {
  /** As it is written in `columns`. */
  readonly text: string;
  /** The word that it begins with. */
  readonly kind: string;
  /** What it is of: the key, counter or tag; of at_min and at_max the two tags. */
  readonly of: readonly string[];
  /** What stands above it, and in small print beside that. */
  readonly label: string;
  readonly detail: string;
}

/** A column from its text; one that makes no sense stands for itself. */
export function columnOf(text: string): Column {
  const pieces = tokens(text);
  const kind = pieces[0] ? partsOf(pieces[0].source)[0]! : '';
  if (kind === 'at_min' || kind === 'at_max') {
    const tags = pieces.filter((piece) => piece.kind !== 'sign').slice(1);
    const of = tags.map((piece) => partsOf(piece.source).join('.'));
    return { text, kind, of, label: of[0] ?? text, detail: `at ${kind.slice(3)} ${of[1] ?? ''}`.trim() };
  }
  if (Object.hasOwn(RUN_COLUMNS, text)) return { text, kind, of: [], label: RUN_COLUMNS[text]!, detail: '' };
  const of = [
    partsOf(pieces[0]?.source ?? '')
      .slice(1)
      .join('.'),
  ];
  if (!of[0]) return { text, kind: '', of: [], label: text, detail: '' };
  if (kind === 'config' || kind === 'counters') return { text, kind, of, label: of[0], detail: '' };
  return { text, kind, of, label: of[0], detail: kind.replace('_', ' ') };
}

/** `last.loss` and so on, as GET /runs takes it. */
export function figureColumn(figure: string, tag: string): string {
  return `${figure}.${quotedIfNeeded(tag)}`;
}

/** The value of one tag where another is at its least or greatest. */
export function bestColumn(best: Best, tag: string, by: string): string {
  return `${best}(${quotedIfNeeded(tag)}, ${quotedIfNeeded(by)})`;
}

/** A config key as it stands behind `config.` becomes the path by which curves are grouped. */
export function configPath(key: string): string {
  return partsOf(key).join('.');
}

/** Whether values stand at the right, so that their digits are below each other. */
export function isNumeric({ kind }: Column): boolean {
  return (
    (kind !== '' && !Object.hasOwn(RUN_COLUMNS, kind) && !DOCUMENTS.has(kind) && !TIMES.has(kind)) ||
    kind === 'attempts' ||
    kind === 'refused'
  );
}

/** How wide a column is if nobody said, in CSS pixels. */
export function widthOf(column: Column): number {
  if (column.kind === 'counters') return 152;
  if (TIMES.has(column.kind)) return 152;
  if (column.kind === 'status') return 100;
  if (column.kind.startsWith('at_')) return 168;
  return column.text === 'age' || column.text === 'idle' ? 96 : 108;
}

/** What else has to be asked for, so that a column can be shown. */
export function neededFor({ text, kind }: Column): string[] {
  if (text === 'idle') return ['last_seen'];
  if (text === 'status') return ['stalled', 'incidents'];
  if (kind !== 'counters') return [];
  const counter = text.slice(kind.length);
  return [`totals${counter}`, `rates${counter}`];
}

/** Values of a run by column, and the service's time (seconds since the epoch) at which ages are told. */
export type Values = Readonly<Record<string, unknown>>;

/** A cell's text. */
export function cellText(column: Column, values: Values, now: number): string {
  const value = values[column.text];
  if (column.text === 'age') return ageText(numberOf(values['created_at']), now);
  if (column.text === 'idle') return ageText(numberOf(values['last_seen']), now);
  if (value === null || value === undefined) return '–';
  if (TIMES.has(column.kind)) return timeText(numberOf(value));
  if (column.kind === 'counters' || column.kind === 'totals' || column.kind.endsWith('_step'))
    return typeof value === 'number' ? stepText(value) : String(value);
  if (column.kind === 'rates' && typeof value === 'number') return `${shortText(value)}/s`;
  return plainText(value, isNumeric(column));
}

/** The time that a cell is about, if it is about one (seconds since the epoch). */
export function timeOf(column: Column, values: Values): number | null {
  if (column.text === 'age') return numberOf(values['created_at']);
  if (column.text === 'idle') return numberOf(values['last_seen']);
  return TIMES.has(column.kind) ? numberOf(values[column.text]) : null;
}

/** Any value of a document as text; `numeric`: the texts NaN, Infinity and -Infinity are numbers. */
export function plainText(value: unknown, numeric = false): string {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'number') return valueText(value);
  if (typeof value === 'string') {
    if (numeric && /^(NaN|-?Infinity)$/.test(value)) return valueText(value);
    return value.length > TEXT_CHARS_MAX ? `${value.slice(0, TEXT_CHARS_MAX)}…` : value;
  }
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value.join(', ');
  return plainText(JSON.stringify(value));
}

export interface Progress {
  /** From 0 to 1. */
  readonly share: number;
  /** How far it is, how fast, and how long it takes from here: for titles. */
  readonly told: string;
  /** How long it takes from here, in short; '' if nobody can say. */
  readonly left: string;
}

/** How far a counter of a run is; null if it is not known how far it is to go. */
export function progressOf(column: Column, values: Values): Progress | null {
  const counter = column.text.slice(column.kind.length);
  const value = numberOf(values[column.text]);
  const total = numberOf(values[`totals${counter}`]);
  const rate = numberOf(values[`rates${counter}`]);
  if (column.kind !== 'counters' || value === null || total === null || total <= 0) return null;
  const told = [`${stepText(value)} of ${stepText(total)}`, `${Math.floor((100 * value) / total)} %`];
  let left = '';
  if (values['status'] === 'running' && rate !== null && rate > 0) {
    told.push(`${shortText(rate)} steps/s`);
    if (value < total) {
      left = durationText((total - value) / rate);
      told.push(`${left} left`);
    }
  }
  return { share: Math.min(1, Math.max(0, value / total)), told: told.join(' · '), left };
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** The column that a click on a head orders by: ages go by the times they are counted from, which stand still. */
export function sortColumnOf({ text }: Column): string {
  return text === 'age' ? 'created_at' : text === 'idle' ? 'last_seen' : text;
}

/** A list with an item moved by some places, as far as there are any. */
export function moved<T>(items: readonly T[], from: number, by: number): readonly T[] {
  const to = Math.max(0, Math.min(items.length - 1, from + by));
  if (from < 0 || from >= items.length || to === from) return items;
  const found = items.filter((_, i) => i !== from);
  found.splice(to, 0, items[from]!);
  return found;
}
