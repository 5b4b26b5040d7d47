import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ColumnsAnswer } from '../src/api/client';
import { asSearch, marked, suggestions, SUGGESTIONS_MAX, taken } from '../src/lib/suggest';

const key = (column: string, values: (string | number | boolean)[]) => ({
  column,
  runs: 3,
  sorts: {},
  distinct: values.length,
  values,
  least: null,
  greatest: null,
});
const known: ColumnsAnswer = {
  runs: 3,
  config: [key('config.lr', [0.1, 0.2]), key('config.opt', ['adam', 'sgd'])],
  summary: [],
  tags: [{ column: 'last.val/loss', tag: 'val/loss', runs: 3 }],
  counters: [{ column: 'counters.epoch', counter: 'epoch', runs: 3, totals: 0 }],
  truncated: false,
};
const offered = (text: string, caret = text.length) =>
  suggestions(text, caret, known).items.map(({ insert }) => insert);

describe('suggestions', () => {
  it('begin with columns', () => {
    expect(offered('')).toContain('config.lr');
    expect(offered('config.')).toEqual(expect.arrayContaining(['config.lr', 'config.opt']));
    expect(offered('lo')).toEqual(expect.arrayContaining(['last.val/loss', 'min.val/loss', 'name ~ "lo"']));
    expect(offered('config.lr < 1 and ep')).toContain('counters.epoch');
    expect(offered('(not config.o')).toContain('config.opt');
  });

  it('go on with operators, values and words', () => {
    expect(offered('config.opt ')).toContain('!=');
    expect(offered('config.opt = ')).toEqual(['"adam"', '"sgd"']);
    expect(offered('config.opt = "s')).toEqual(['"sgd"']);
    expect(offered('status != ')).toEqual(['"running"', '"finished"', '"failed"', '"lost"']);
    expect(offered('config.opt = "sgd" ')).toEqual(['and', 'or']);
    expect(offered('config.lr = 0.1 ')).toEqual(['and', 'or']);
    expect(offered('(config.lr = 0.1) ')).toEqual(['and', 'or']);
  });

  it('take the place of what is typed, with the rest as it was', () => {
    const found = suggestions('config.o = "sgd"', 8, known);
    expect(taken('config.o = "sgd"', found, found.items[0]!)).toEqual({
      text: 'config.opt = "sgd"',
      caret: 'config.opt '.length,
    });
  });

  it('are bounded and harmless, whatever is typed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.nat(), (text, at) => {
        const caret = at % (text.length + 1);
        const { from, to, items } = suggestions(text, caret, known);
        expect(items.length).toBeLessThanOrEqual(SUGGESTIONS_MAX);
        expect(from <= caret && caret <= to).toBe(true);
        expect(new Set(items.map(({ insert }) => insert)).size).toBe(items.length);
      }),
    );
  });
});

describe('a plain text', () => {
  it('can be looked for in names', () => {
    expect(asSearch('resnet34')).toBe('name ~ "resnet34"');
    expect(asSearch(' two words ')).toBe('name ~ "two words"');
    expect([asSearch(''), asSearch('a = 1'), asSearch('a and b'), asSearch('"x"')]).toEqual(
      Array(4).fill(null),
    );
  });
});

describe('a mark', () => {
  it('is around the piece that begins at the place that the service counted', () => {
    expect(marked('config.lr < foo', 13)).toEqual(['config.lr < ', 'foo', '']);
    expect(marked('name = "😀" and x', 16)).toEqual(['name = "😀" and ', 'x', '']);
    expect(marked('a <', 4)).toEqual(['a <', '', '']);
    expect(marked('', 1)).toEqual(['', '', '']);
  });

  it('loses nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat(60), (text, position) => {
        expect(marked(text, position).join('')).toBe(text);
      }),
    );
  });
});
