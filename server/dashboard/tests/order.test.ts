import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareRows, compareTexts, formatSort, merged, parseSort, pressed } from '../src/lib/order';

interface Row {
  name: string;
  values: Record<string, unknown>;
}

const value = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom('NaN', 'Infinity', '-Infinity', 'a', 'b', '', null, true, false, [1], {}),
);
const name = fc.constantFrom(...'abcdefghijkl');
const row = fc.record({ name, values: fc.record({ x: value, y: value }) });
const rows = fc.uniqueArray(row, { selector: (row) => row.name });
const sort = fc.constantFrom('', 'x', '-x', 'x,-y', '-y,x', '-name');

const inOrder = (of: readonly Row[], keys: ReturnType<typeof parseSort>) =>
  [...of].sort((a, b) => compareRows(keys, a, b));

describe('the order of rows', () => {
  it('is that of the service: numbers, texts, booleans, the rest; NaN and nothing last', () => {
    const values = [null, 'NaN', [1], true, false, 'b', 'a', 'Infinity', 2, '-Infinity', undefined];
    const given = values.map((x, i) => ({ name: `r${String(i).padStart(2, '0')}`, values: { x } }));
    const found = (sort: string) => inOrder(given, parseSort(sort)).map(({ values }) => values['x']);
    expect(found('x')).toEqual([
      '-Infinity',
      2,
      'Infinity',
      'a',
      'b',
      false,
      true,
      [1],
      'NaN',
      null,
      undefined,
    ]);
    expect(found('-x')).toEqual([
      [1],
      true,
      false,
      'b',
      'a',
      'Infinity',
      2,
      '-Infinity',
      'NaN',
      null,
      undefined,
    ]);
  });

  it('of equals is that of names, also if it descends', () => {
    const given = ['c', 'a', 'b'].map((name) => ({ name, values: { x: 1 } }));
    expect(inOrder(given, parseSort('-x')).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });

  it('of texts goes by code points', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        const points = (text: string) => [...text].map((c) => c.codePointAt(0)!);
        const [x, y] = [points(a), points(b)];
        const at = x.findIndex((point, i) => point !== y[i]);
        const wanted = at < 0 ? x.length - y.length : at >= y.length ? 1 : x[at]! - y[at]!;
        expect(Math.sign(compareTexts(a, b))).toBe(Math.sign(wanted));
      }),
    );
  });
});

describe('rows that changed', () => {
  it('take their places as if all rows had been asked for', () => {
    fc.assert(
      fc.property(rows, rows, fc.array(name), sort, (before, changed, gone, by) => {
        const keys = parseSort(by);
        const asked = [...new Set([...changed.map(({ name }) => name), ...gone])];
        const all = new Map(before.map((row) => [row.name, row]));
        asked.forEach((name) => all.delete(name));
        changed.forEach((row) => all.set(row.name, row));
        const found = merged(inOrder(before, keys), inOrder(changed, keys), asked, keys, false);
        expect(found).toEqual(inOrder([...all.values()], keys));
      }),
    );
  });

  it('behind the last of the rows that are known are left out: nobody knows what is between', () => {
    const rows = ['a', 'c', 'e'].map((name) => ({ name, values: {} }));
    const now = ['b', 'f'].map((name) => ({ name, values: {} }));
    const names = (more: boolean) => merged(rows, now, ['b', 'f'], [], more).map(({ name }) => name);
    expect(names(false)).toEqual(['a', 'b', 'c', 'e', 'f']);
    expect(names(true)).toEqual(['a', 'b', 'c', 'e']);
  });
});

describe('a press on a head', () => {
  it('goes up, down, and away', () => {
    const presses = (add: boolean) =>
      [1, 2, 3].map(
        (
          (sort: string) => () =>
            (sort = pressed(sort, 'x', add))
        )('y'),
      );
    expect(presses(false)).toEqual(['x', '-x', '']);
    expect(presses(true)).toEqual(['y,x', 'y,-x', 'y']);
  });

  it('reads columns with commas in them', () => {
    const sort = '-at_min(a, b),last."x,y"';
    expect(formatSort(parseSort(sort))).toBe(sort);
    expect(pressed(sort, 'at_min(a, b)', true)).toBe('last."x,y"');
  });

  it('never makes more keys than the service takes', () => {
    const sort = Array.from({ length: 8 }, (_, i) => `c${i}`).join(',');
    expect(pressed(sort, 'x', true)).toBe(sort);
  });
});
