import { describe, expect, it } from 'vitest';
import {
  axesOf,
  axisOf,
  chartGroups,
  columnsOf,
  groupOf,
  isCounted,
  rowsOf,
  searchProblem,
} from '../src/lib/charts';

const TAGS = ['acc', 'train/loss', 'train/net/norm', 'val/loss', '/odd'];

describe('groups of charts', () => {
  it('are what stands before the first slash, in the order of tags, and last those without', () => {
    expect(chartGroups(TAGS, '', [])).toEqual([
      { name: 'train', tags: ['train/loss', 'train/net/norm'] },
      { name: 'val', tags: ['val/loss'] },
      { name: '', tags: ['acc', '/odd'] },
    ]);
    expect(TAGS.map(groupOf)).toEqual(['', 'train', 'train', 'val', '']);
  });

  it('have only what the search finds, in any case, and nothing that is pinned', () => {
    expect(chartGroups(TAGS, 'LOSS$', ['val/loss'])).toEqual([{ name: 'train', tags: ['train/loss'] }]);
  });

  it('take five thousand tags', () => {
    const many = Array.from({ length: 5000 }, (_, i) => `g${i % 50}/t${i}`);
    const groups = chartGroups(many, '', []);
    expect(groups).toHaveLength(50);
    expect(groups.flatMap(({ tags }) => tags).sort()).toEqual([...many].sort());
  });
});

it('a search that is no regular expression is told why', () => {
  expect(searchProblem('loss|acc')).toBeNull();
  expect(searchProblem('loss(')).toBe('No regular expression: Unterminated group.');
});

describe('the axis of a chart', () => {
  it('by step is its own counter, that of the most runs', () => {
    expect(axisOf('step', { epoch: 2, global_step: 5 })).toBe('global_step');
    expect(axisOf('step', { b: 2, a: 2 })).toBe('a');
    expect(axisOf('step', { 'tag:loss': 9 })).toBe('step');
    expect(axisOf('step', {})).toBe('step');
  });

  it('else is what was chosen', () => {
    expect(axisOf('relative', { epoch: 2 })).toBe('relative');
    expect(axisOf('epoch', { global_step: 2 })).toBe('epoch');
    expect(['step', 'epoch', 'relative', 'wall_time'].map(isCounted)).toEqual([true, true, false, false]);
  });

  it('can be any counter but those of single tags', () => {
    expect(axesOf(['epoch', 'tag:loss', 'D_step', 'epoch'])).toEqual(['D_step', 'epoch']);
  });
});

it('rows hold as many charts as there is room for', () => {
  expect([100, 360, 731, 732, 1104].map((width) => columnsOf(width, 360, 12))).toEqual([1, 1, 1, 2, 3]);
  expect(rowsOf(['a', 'b', 'c'], 2)).toEqual([['a', 'b'], ['c']]);
  expect(rowsOf([], 2)).toEqual([]);
});
