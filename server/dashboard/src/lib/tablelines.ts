/** The table's lines: runs in their order, ranks below their run, in groups if runs are grouped. */
import { plainText } from './columns';
import { compareRows } from './order';
import { runOfRank } from './tree';

interface Named {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface GroupLine {
  readonly kind: 'group';
  /** Tells it from other groups: the value as JSON. */
  readonly key: string;
  readonly label: string;
  /** Its runs as they stand, without those that are ranks of others. */
  readonly names: readonly string[];
  readonly open: boolean;
}

export interface RunLine<R extends Named> {
  readonly kind: 'run';
  readonly row: R;
  /** 1; one more in a group, one more for a rank. */
  readonly level: number;
  /** How many ranks it has. */
  readonly ranks: number;
  readonly open: boolean;
}

export type Line<R extends Named> = GroupLine | RunLine<R>;

export interface Arrangement {
  /** Column whose values make groups; null: there are none. */
  readonly by: string | null;
  /** Keys of the groups that are folded up. */
  readonly folded: ReadonlySet<string>;
  /** Runs whose ranks are shown. */
  readonly openRanks: ReadonlySet<string>;
}

/** A run with its ranks, each in the order of the rows. */
interface Family<R> {
  readonly row: R;
  readonly ranks: R[];
}

export function linesOf<R extends Named>(rows: readonly R[], arrangement: Arrangement): Line<R>[] {
  const { by, folded, openRanks } = arrangement;
  const found = families(rows);
  if (by === null) return found.flatMap((family) => familyLines(family, 1, openRanks));
  return grouped(found, by).flatMap(({ value, members }) => {
    const key = JSON.stringify(value ?? null);
    const open = !folded.has(key);
    const names = members.map(({ row }) => row.name);
    const group: GroupLine = {
      kind: 'group',
      key,
      label: plainText(value),
      names,
      open,
    };
    return [group, ...(open ? members.flatMap((family) => familyLines(family, 2, openRanks)) : [])];
  });
}

/** Ranks whose run is among the rows stand with it; others by themselves. */
function families<R extends Named>(rows: readonly R[]): Family<R>[] {
  const byName = new Map(rows.map((row) => [row.name, { row, ranks: [] as R[] }]));
  const found: Family<R>[] = [];
  for (const row of rows) {
    const run = runOfRank(row.name);
    const family = run === null || runOfRank(run) !== null ? undefined : byName.get(run);
    if (family) family.ranks.push(row);
    else found.push(byName.get(row.name)!);
  }
  return found;
}

function familyLines<R extends Named>(
  { row, ranks }: Family<R>,
  level: number,
  openRanks: ReadonlySet<string>,
): RunLine<R>[] {
  const open = ranks.length > 0 && openRanks.has(row.name);
  const lines: RunLine<R>[] = [{ kind: 'run', row, level, ranks: ranks.length, open }];
  if (open)
    lines.push(
      ...ranks.map((rank) => ({ kind: 'run' as const, row: rank, level: level + 1, ranks: 0, open: false })),
    );
  return lines;
}

/** Groups in the order of their values, that of runs without one last. */
function grouped<R extends Named>(found: readonly Family<R>[], by: string) {
  const groups = new Map<string, { value: unknown; members: Family<R>[] }>();
  for (const family of found) {
    const value = family.row.values[by];
    const key = JSON.stringify(value ?? null);
    const group = groups.get(key);
    if (group) group.members.push(family);
    else groups.set(key, { value, members: [family] });
  }
  const keys = [{ column: 'value', descending: false }];
  const sorted = [...groups].map(([name, group]) => ({ name, values: { value: group.value }, group }));
  return sorted.sort((a, b) => compareRows(keys, a, b)).map(({ group }) => group);
}
