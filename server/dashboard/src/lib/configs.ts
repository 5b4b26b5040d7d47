/** Configs of several runs side by side: which keys differ, and the table as Markdown or JSON. */
import { quotedIfNeeded } from './expression';

export interface Compared {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface KeyLine {
  /** The key, dotted where objects are nested. */
  readonly key: string;
  /** A value for each run; undefined where there is none. */
  readonly values: readonly unknown[];
  readonly differs: boolean;
  /** Of each value how many runs have the same: the rare ones are what one looks for. */
  readonly same: readonly number[];
}

/** Objects in a config nested deeper than this are values. */
const DEPTH_MAX = 20;

/** A line for each key that any of the runs has: those that differ first, each part in the order of keys. */
export function compare(runs: readonly Compared[]): KeyLine[] {
  const leaves = runs.map(({ config }) => new Map(leavesOf(config)));
  const keys = [...new Set(leaves.flatMap((of) => [...of.keys()]))].sort();
  const lines = keys.map((key) =>
    lineOf(
      key,
      leaves.map((of) => of.get(key)),
    ),
  );
  return [...lines.filter((line) => line.differs), ...lines.filter((line) => !line.differs)];
}

/** Everything in a document that is no object, by its dotted key; and empty objects. */
export function leavesOf(document: Readonly<Record<string, unknown>>): [string, unknown][] {
  const leaves = (value: object, path: string, depth: number): [string, unknown][] =>
    Object.entries(value).flatMap(([name, inner]): [string, unknown][] => {
      const key = path + quotedIfNeeded(name, '.');
      const isObject = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
      if (!isObject || depth === DEPTH_MAX || !Object.keys(inner).length) return [[key, inner]];
      return leaves(inner, `${key}.`, depth + 1);
    });
  return leaves(document, '', 1);
}

/** A value as JSON, with keys in order, so that equals have the same text; '' for none. */
export function jsonOf(value: unknown): string {
  if (value === undefined) return '';
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** A Markdown table: a column for each run, differing keys first, in bold. */
export function markdownOf(runs: readonly Compared[]): string {
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const lines = compare(runs).map(({ key, values, differs }) =>
    row([differs ? `**${escaped(key)}**` : escaped(key), ...values.map((value) => escaped(shown(value)))]),
  );
  const head = row(['config', ...runs.map(({ name }) => escaped(name))]);
  return [head, row(['---', ...runs.map(() => '---')]), ...lines].join('\n') + '\n';
}

/** The configs by run, as JSON. */
export function documentsOf(runs: readonly Compared[]): string {
  return JSON.stringify(Object.fromEntries(runs.map(({ name, config }) => [name, config])), null, 2) + '\n';
}

function lineOf(key: string, values: readonly unknown[]): KeyLine {
  const counts = new Map<string, number>();
  const texts = values.map(jsonOf);
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return { key, values, differs: counts.size > 1, same: texts.map((text) => counts.get(text)!) };
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : jsonOf(value);
}

/** What would end a cell, begin markup or a tag stands as it is. */
function escaped(text: string): string {
  return text.replace(/[\\|*_`<>[\]]/g, '\\$&').replace(/\s*[\r\n]+\s*/g, ' ');
}
