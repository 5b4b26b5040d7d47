import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bestColumn,
  cellText,
  columnOf,
  configPath,
  figureColumn,
  isNumeric,
  moved,
  neededFor,
  plainText,
  progressOf,
  sortColumnOf,
  timeOf,
} from '../src/lib/columns';

const NOW = 1_800_000_000;
const shown = (text: string, values: Record<string, unknown>) => cellText(columnOf(text), values, NOW);

describe('a column', () => {
  it.each([
    ['config.lr', 'lr', ''],
    ['config.net.depth', 'net.depth', ''],
    ['config."a.b".c', 'a.b.c', ''],
    ['last.val/loss', 'val/loss', 'last'],
    ['min_step.val/loss', 'val/loss', 'min step'],
    ['last."my tag"', 'my tag', 'last'],
    ['at_min(test/acc, val/loss)', 'test/acc', 'at min val/loss'],
    ['at_max("test acc",val.loss)', 'test acc', 'at max val.loss'],
    ['counters.epoch', 'epoch', ''],
    ['status', 'Status', ''],
    ['age', 'Created', ''],
    ['nonsense', 'nonsense', ''],
    ['at_min(', 'at_min(', 'at min'],
    ['', '', ''],
    ['constructor', 'constructor', ''],
  ])('%s stands below “%s %s”', (text, label, detail) => {
    expect(columnOf(text)).toMatchObject({ text, label, detail });
  });

  it('of any tag comes back from its text', () => {
    const tag = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(tag, tag, (a, b) => {
        expect(columnOf(figureColumn('last', a)).of).toEqual([a]);
        expect(columnOf(bestColumn('at_max', a, b)).of).toEqual([a, b]);
      }),
    );
  });

  it('of numbers stands at the right', () => {
    const right = ['last.loss', 'counters.step', 'attempts', 'at_min(a, b)', 'rates.step'];
    const left = ['config.opt', 'status', 'age', 'min_time.loss', 'name', 'nonsense'];
    expect(right.filter((text) => !isNumeric(columnOf(text)))).toEqual([]);
    expect(left.filter((text) => isNumeric(columnOf(text)))).toEqual([]);
  });

  it('is ordered by what stands still', () => {
    expect(['age', 'idle', 'last.loss'].map((text) => sortColumnOf(columnOf(text)))).toEqual([
      'created_at',
      'last_seen',
      'last.loss',
    ]);
  });

  it('of a counter needs its total and its rate', () => {
    expect(neededFor(columnOf('counters."a b"'))).toEqual(['totals."a b"', 'rates."a b"']);
    expect(neededFor(columnOf('status'))).toEqual(['stalled', 'incidents']);
    expect(neededFor(columnOf('idle'))).toEqual(['last_seen']);
    expect(neededFor(columnOf('last.loss'))).toEqual([]);
  });

  it('of a config key groups curves by its path', () => {
    expect(configPath('net.depth')).toBe('net.depth');
    expect(configPath('"a.b"')).toBe('a.b');
  });
});

describe('a cell', () => {
  it.each<[string, Record<string, unknown>, string]>([
    ['config.lr', { 'config.lr': 0.0003 }, '0.0003'],
    ['config.amp', { 'config.amp': false }, 'false'],
    ['config.dims', { 'config.dims': [1, 2] }, '[1,2]'],
    ['config.note', { 'config.note': 'NaN' }, 'NaN'],
    ['last.loss', { 'last.loss': '-Infinity' }, '−∞'],
    ['config.inf', { 'config.inf': 'Infinity' }, 'Infinity'],
    ['last.loss', { 'last.loss': null }, '–'],
    ['last.loss', {}, '–'],
    ['counters.step', { 'counters.step': 12_345 }, '12,345'],
    ['rates.step', { 'rates.step': 1_234.5 }, '1.23k/s'],
    ['tags', { tags: ['a', 'b'] }, 'a, b'],
    ['age', { age: 1, created_at: NOW - 7_200 }, '2 h ago'],
    ['idle', { idle: 1, last_seen: NOW - 5 }, '5 s ago'],
    ['status', { status: 'lost' }, 'lost'],
  ])('of %s reads as one would write it', (text, values, wanted) => {
    expect(shown(text, values)).toBe(wanted);
  });

  it('is bounded, whatever a user wrote', () => {
    expect(plainText('x'.repeat(10_000))).toHaveLength(301);
    expect(plainText({ a: 'x'.repeat(10_000) })).toHaveLength(301);
  });

  it('of a time says which', () => {
    expect(timeOf(columnOf('age'), { created_at: 5 })).toBe(5);
    expect(timeOf(columnOf('min_time.loss'), { 'min_time.loss': 6 })).toBe(6);
    expect(timeOf(columnOf('last.loss'), { 'last.loss': 6 })).toBeNull();
  });
});

describe('progress', () => {
  const column = columnOf('counters.step');
  const values = { 'counters.step': 600, 'totals.step': 1_000, 'rates.step': 10, status: 'running' };

  it('says how far, how fast, and how long', () => {
    expect(progressOf(column, values)).toEqual({
      share: 0.6,
      told: '600 of 1,000 · 60 % · 10 steps/s · 40 s left',
      left: '40 s',
    });
  });

  it('has no time left if nothing runs, and is not known without a total', () => {
    expect(progressOf(column, { ...values, status: 'failed' })).toMatchObject({ left: '' });
    expect(progressOf(column, { ...values, 'rates.step': null })).toMatchObject({ left: '' });
    expect(progressOf(column, { ...values, 'counters.step': 2_000 })).toMatchObject({ share: 1, left: '' });
    expect(progressOf(column, { ...values, 'totals.step': null })).toBeNull();
    expect(progressOf(columnOf('last.loss'), values)).toBeNull();
  });
});

it('moves an item of a list without losing any', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(), { minLength: 1 }), fc.nat(), fc.integer(), (items, at, by) => {
      const from = at % items.length;
      const found = moved(items, from, by);
      expect([...found].sort()).toEqual([...items].sort());
      expect(found.indexOf(items[from]!)).toBe(Math.max(0, Math.min(items.length - 1, from + by)));
    }),
  );
  expect(moved([1, 2], 5, -1)).toEqual([1, 2]);
});
