import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { between, shareOf, withRuns } from '../src/lib/selection';
import { isSelected, withRun, type Selection } from '../src/lib/view';

const name = fc.constantFrom(...'abcdefgh');
const names = fc.uniqueArray(name);
const selections: fc.Arbitrary<Selection> = fc.oneof(
  fc.record({ kind: fc.constant('some' as const), runs: names }),
  fc.record({ kind: fc.constant('all' as const), but: names }),
);

describe('several runs', () => {
  it('are selected as if one by one', () => {
    fc.assert(
      fc.property(selections, fc.array(name), fc.boolean(), (selection, runs, selected) => {
        const wanted = runs.reduce((before, run) => withRun(before, run, selected), selection);
        expect(withRuns(selection, runs, selected)).toEqual(wanted);
      }),
    );
  });

  it('that are so already change nothing', () => {
    const selection: Selection = { kind: 'some', runs: ['a', 'b'] };
    expect(withRuns(selection, ['b', 'a'], true)).toBe(selection);
    expect(withRuns(selection, ['c'], false)).toBe(selection);
  });
});

describe('a range', () => {
  it('is the same from either end, and holds both', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { minLength: 1 }), fc.nat(), fc.nat(), (items, one, other) => {
        const [a, b] = [items[one % items.length]!, items[other % items.length]!];
        const found = between(items, a, b);
        expect(found).toEqual(between(items, b, a));
        expect(found).toEqual(items.filter((_, i) => (i - items.indexOf(a)) * (i - items.indexOf(b)) <= 0));
      }),
    );
  });

  it('without a beginning is one run, and without an end nothing', () => {
    expect(between(['a', 'b'], null, 'b')).toEqual(['b']);
    expect(between(['a', 'b'], 'gone', 'b')).toEqual(['b']);
    expect(between(['a', 'b'], 'a', 'gone')).toEqual([]);
  });
});

it('says how many of a group are selected', () => {
  const selection: Selection = { kind: 'all', but: ['a'] };
  const share = (runs: string[]) => shareOf(runs, (run) => isSelected(selection, run));
  expect([['a'], ['a', 'b'], ['b', 'c'], []].map(share)).toEqual(['none', 'some', 'all', 'none']);
});
