/** The order of a table's rows, as the service has it (docs/filters.md): so that what changed takes its place here. */
import { splitList } from './expression';

export interface SortKey {
  readonly column: string;
  readonly descending: boolean;
}

/** Something with values by column; `name` is one of them. */
interface Sorted {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Keys in one sort: the service takes no more. */
const KEYS_MAX = 8;
const TEXT_CHARS_MAX = 200;

export function parseSort(sort: string): SortKey[] {
  return splitList(sort).map((text) =>
    text.startsWith('-') ? { column: text.slice(1), descending: true } : { column: text, descending: false },
  );
}

export function formatSort(keys: readonly SortKey[]): string {
  return keys.map(({ column, descending }) => `${descending ? '-' : ''}${column}`).join(',');
}

/** A click on a column's head: up, down, not at all; `add`: beside the others, else in their place. */
export function pressed(sort: string, column: string, add: boolean): string {
  const keys = parseSort(sort);
  const before = keys.find((key) => key.column === column);
  const next = before?.descending ? [] : [{ column, descending: before !== undefined }];
  if (!add) return formatSort(next);
  if (before) return formatSort(keys.flatMap((key) => (key === before ? next : [key])));
  return formatSort([...keys, ...next].slice(0, KEYS_MAX));
}

/** Less than 0 if a row comes before another. */
export function compareRows(keys: readonly SortKey[], a: Sorted, b: Sorted): number {
  for (const { column, descending } of keys) {
    const [x, y] = [rank(a.values[column]), rank(b.values[column])];
    const found = x[0] - y[0] || compare(x[1], y[1]);
    if (found) return descending && Math.max(x[0], y[0]) < NAN ? -found : found;
  }
  return compareTexts(a.name, b.name);
}

const [NUMBER, TEXT, BOOLEAN, OTHER, NAN, MISSING] = [0, 1, 2, 3, 8, 9];

/** Kind and value; numbers that JSON does not have come as texts. */
function rank(value: unknown): [kind: number, value: number | string] {
  if (value === null || value === undefined) return [MISSING, 0];
  if (typeof value === 'number') return [NUMBER, value];
  if (typeof value === 'boolean') return [BOOLEAN, Number(value)];
  if (value === 'NaN') return [NAN, 0];
  if (value === 'Infinity' || value === '-Infinity') return [NUMBER, Number(value)];
  if (typeof value === 'string') return [TEXT, [...value].slice(0, TEXT_CHARS_MAX).join('')];
  return [OTHER, [...JSON.stringify(value)].slice(0, TEXT_CHARS_MAX).join('')];
}

function compare(a: number | string, b: number | string): number {
  return typeof a === 'string' ? compareTexts(a, String(b)) : a - Number(b) || 0;
}

/** By code points, as the service compares; JavaScript's own `<` goes by UTF-16. */
export function compareTexts(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    const [one, other] = [isSurrogate(x), isSurrogate(y)];
    return one === other ? x - y : one ? 1 : -1;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xe000;
}

/** Rows in order, with some of them as they are now; `asked` and not among these: they are no longer of the table. */
export function merged<R extends Sorted>(
  rows: readonly R[],
  now: readonly R[],
  asked: readonly string[],
  keys: readonly SortKey[],
  /** Whether there are rows behind the last one, which are not known. */
  more: boolean,
): R[] {
  const gone = new Set([...asked, ...now.map((row) => row.name)]);
  const last = rows.at(-1);
  const stay = rows.filter((row) => !gone.has(row.name));
  const come = [...now].sort((a, b) => compareRows(keys, a, b));
  const known = come.filter((row) => !more || (last !== undefined && compareRows(keys, row, last) <= 0));
  const found: R[] = [];
  let at = 0;
  for (const row of stay) {
    while (at < known.length && compareRows(keys, known[at]!, row) < 0) found.push(known[at++]!);
    found.push(row);
  }
  return [...found, ...known.slice(at)];
}
