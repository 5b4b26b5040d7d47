import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linesOf, type Arrangement } from '../src/lib/tablelines';

const row = (name: string, lr?: unknown) => ({ name, values: { 'config.lr': lr } });
const plain: Arrangement = { by: null, folded: new Set(), openRanks: new Set() };
const names = (rows: ReturnType<typeof row>[], arrangement: Arrangement) =>
  linesOf(rows, arrangement).map((line) => (line.kind === 'group' ? `[${line.label}]` : line.row.name));

const rows = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'a/rank0', 'a/rank1', 'b/rank0', 'd/rank3', 'a/rank0/rank1', 'e'),
    values: fc.record({ 'config.lr': fc.constantFrom(1, 2, '1', 'NaN', null, true, undefined) }),
  }),
  { selector: ({ name }) => name },
);

describe('ranks', () => {
  const given = [row('p/run/rank01'), row('p/run'), row('p/run/rank00'), row('q/run/rank00'), row('r')];

  it('are hidden below their run until it is opened; without it they stand alone', () => {
    expect(names(given, plain)).toEqual(['p/run', 'q/run/rank00', 'r']);
    const open = { ...plain, openRanks: new Set(['p/run']) };
    expect(names(given, open)).toEqual(['p/run', 'p/run/rank01', 'p/run/rank00', 'q/run/rank00', 'r']);
    expect(
      linesOf(given, open).map((line) => (line.kind === 'run' ? [line.level, line.ranks] : null)),
    ).toEqual([
      [1, 2],
      [2, 0],
      [2, 0],
      [1, 0],
      [1, 0],
    ]);
  });
});

describe('groups', () => {
  const given = [row('a', 0.1), row('b', 0.01), row('c'), row('d', 0.1), row('d/rank0', 7)];
  const grouped = { ...plain, by: 'config.lr' };

  it('are in the order of their values, their runs as they stood, ranks with their run', () => {
    expect(names(given, grouped)).toEqual(['[0.01]', 'b', '[0.1]', 'a', 'd', '[–]', 'c']);
    const [, , group] = linesOf(given, grouped);
    expect(group).toMatchObject({ kind: 'group', names: ['a', 'd'], open: true });
  });

  it('are folded up one by one', () => {
    expect(names(given, { ...grouped, folded: new Set(['0.1', 'null']) })).toEqual([
      '[0.01]',
      'b',
      '[0.1]',
      '[–]',
    ]);
  });

  it('tell 1 from "1"', () => {
    expect(
      linesOf([row('a', 1), row('b', '1')], grouped).filter((line) => line.kind === 'group'),
    ).toHaveLength(2);
  });
});

it('shows every row exactly once, if all is open', () => {
  fc.assert(
    fc.property(rows, fc.boolean(), (given, grouped) => {
      const openRanks = new Set(given.map(({ name }) => name));
      const lines = linesOf(given, { by: grouped ? 'config.lr' : null, folded: new Set(), openRanks });
      const shown = lines.flatMap((line) => (line.kind === 'run' ? [line.row.name] : []));
      expect([...shown].sort()).toEqual(given.map(({ name }) => name).sort());
      const inGroups = lines.flatMap((line) => (line.kind === 'group' ? line.names : []));
      const ranks = lines.filter((line) => line.kind === 'run' && line.level === (grouped ? 3 : 2));
      if (grouped) expect(inGroups.length + ranks.length).toBe(shown.length);
    }),
  );
});
