/** What may stand where somebody types in a filter: columns, operators, values, words. */
import type { ColumnsAnswer } from '../api/client';
import { figureColumn, FIGURES, RUN_COLUMNS } from './columns';
import { quoted, tokens, type Token } from './expression';

export interface Suggestion {
  /** What takes the place of the text from `from` to `to`. */
  readonly insert: string;
  readonly label: string;
  /** What it is, in a few words. */
  readonly detail: string;
}

export interface Suggestions {
  readonly from: number;
  readonly to: number;
  readonly items: readonly Suggestion[];
}

export const SUGGESTIONS_MAX = 12;
const OPERATORS = ['=', '!=', '<', '<=', '>', '>=', '~', '!~', 'in'];
const STATUSES = ['running', 'finished', 'failed', 'lost'];
const JOINING = new Set(['and', 'or', 'not']);

/** Suggestions for a filter's text and the place of the caret. */
export function suggestions(text: string, caret: number, known: ColumnsAnswer | null): Suggestions {
  const all = tokens(text);
  const here = all.find((token) => token.kind !== 'sign' && token.start < caret && caret <= token.end);
  const [from, to] = here ? [here.start, here.end] : [caret, caret];
  const typed = here ? text.slice(here.start, caret) : '';
  const before = all.filter((token) => token.end <= from);
  const items = expected(before, known).filter((item) => fits(item, typed));
  if (isCondition(before) && /^[\w./-]+$/.test(typed))
    items.push({
      insert: `name ~ ${quoted(typed)}`,
      label: `name ~ ${quoted(typed)}`,
      detail: 'in the name',
    });
  items.sort((a, b) => place(a, typed) - place(b, typed)); // stable: kinds stay together
  return { from, to, items: items.slice(0, SUGGESTIONS_MAX) };
}

/** The text with a suggestion taken, and where the caret is then: behind a space, for what comes next. */
export function taken(
  text: string,
  { from, to }: Suggestions,
  item: Suggestion,
): { text: string; caret: number } {
  const rest = text.slice(to).trimStart();
  const begin = `${text.slice(0, from)}${item.insert} `;
  return { text: begin + rest, caret: begin.length };
}

/** A filter that looks for a text in names; null if the text is a filter by itself. */
export function asSearch(text: string): string | null {
  const words = text.trim();
  return words &&
    tokens(words).every((token) => token.kind === 'word' && !JOINING.has(token.source.toLowerCase()))
    ? `name ~ ${quoted(words)}`
    : null;
}

/** A text around the piece at a character (counted by code points, from 1): what is before it, it, and what follows. */
export function marked(text: string, position: number): [before: string, at: string, after: string] {
  const start = [...text].slice(0, Math.max(0, position - 1)).join('').length;
  const piece = tokens(text).find((token) => token.start <= start && start < token.end);
  const end = piece?.end ?? Math.min(text.length, start + 1);
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

function expected(before: readonly Token[], known: ColumnsAnswer | null): Suggestion[] {
  const last = before.at(-1);
  if (isCondition(before)) return columns(known);
  if (last?.kind === 'sign' && last.source === ',') return [];
  if (last?.kind === 'sign' && last.source !== ')') return values(before.at(-2)?.source ?? '', known);
  if (last?.kind === 'word' && !isSide(before)) return OPERATORS.map((sign) => plain(sign, 'compare'));
  return ['and', 'or'].map((word) => plain(word, 'put together'));
}

/** Whether a condition may begin here. */
function isCondition(before: readonly Token[]): boolean {
  const last = before.at(-1);
  if (!last) return true;
  if (last.kind === 'word') return JOINING.has(last.source.toLowerCase());
  return last.source === '(' && before.at(-2)?.source.toLowerCase() !== 'in';
}

/** Whether the last piece stands to the right of an operator: then a condition is complete. */
function isSide(before: readonly Token[]): boolean {
  const sign = before.at(-2);
  return sign?.kind === 'sign' && sign.source !== '(' && sign.source !== ')';
}

function columns(known: ColumnsAnswer | null): Suggestion[] {
  const own = Object.entries(RUN_COLUMNS).map(([insert, label]) => ({
    insert,
    label: insert,
    detail: label,
  }));
  if (!known) return own;
  const many = (runs: number) => `${runs} ${runs === 1 ? 'run' : 'runs'}`;
  const keys = [...known.config, ...known.summary].map((key) => plain(key.column, many(key.runs)));
  const figures = FIGURES.flatMap((figure) =>
    known.tags.map(({ tag, runs }) => plain(figureColumn(figure, tag), many(runs))),
  );
  const counters = known.counters.map(({ column, runs }) => plain(column, many(runs)));
  return [...keys, ...figures, ...counters, ...own];
}

function values(column: string, known: ColumnsAnswer | null): Suggestion[] {
  if (column === 'status') return STATUSES.map((status) => plain(quoted(status), 'status'));
  const key = [...(known?.config ?? []), ...(known?.summary ?? [])].find((found) => found.column === column);
  return (key?.values ?? []).map((value) =>
    plain(typeof value === 'string' ? quoted(value) : String(value), 'a value'),
  );
}

function plain(text: string, detail: string): Suggestion {
  return { insert: text, label: text, detail };
}

function fits({ label }: Suggestion, typed: string): boolean {
  const text = typed.toLowerCase();
  return label.toLowerCase() !== text && label.toLowerCase().includes(text);
}

/** What begins so comes first, then what has a part that does. */
function place({ label, detail }: Suggestion, typed: string): number {
  const [text, wanted] = [label.toLowerCase(), typed.toLowerCase()];
  if (!wanted || text.startsWith(wanted) || detail === 'in the name') return 0;
  return text.split(/[./"(]/).some((part) => part.startsWith(wanted)) ? 1 : 2;
}
