import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { above, runOfRank, treeLines, treeOf, type Node } from '../src/lib/tree';

const names = fc.uniqueArray(
  fc
    .array(fc.constantFrom('a', 'b', 'c', 'rank0', 'rank12'), { minLength: 1, maxLength: 5 })
    .map((parts) => parts.join('/')),
);

const flat = (nodes: readonly Node[]): Node[] => nodes.flatMap((node) => [node, ...flat(node.children)]);

describe('the tree of projects', () => {
  it('has a node for each part above a run, with the runs below it', () => {
    const tree = treeOf(['mnist/try1', 'mnist/sweep/r1', 'mnist/sweep/r2', 'gan/x', 'alone']);
    expect(flat(tree).map(({ path, label, count }) => [path, label, count])).toEqual([
      ['gan', 'gan', 1],
      ['mnist', 'mnist', 3],
      ['mnist/sweep', 'sweep', 2],
    ]);
  });

  it('counts ranks with their run', () => {
    const [node] = treeOf(['p/run', 'p/run/rank00', 'p/run/rank01', 'p/other/rank00']);
    expect(node).toMatchObject({ path: 'p', count: 2, children: [] });
  });

  it('counts what brute force counts', () => {
    fc.assert(
      fc.property(names, (given) => {
        const runs = new Set(given.map((name) => name.replace(/^(.+)\/rank\d+$/, '$1')));
        for (const node of flat(treeOf(given)))
          expect(node.count).toBe([...runs].filter((run) => run.startsWith(`${node.path}/`)).length);
      }),
    );
  });

  it('has an end, however deep names are', () => {
    const tree = treeOf(['x/'.repeat(200) + 'run']);
    expect(flat(tree)).toHaveLength(8);
  });

  it('shows what is open only', () => {
    const tree = treeOf(['a/b/c/run', 'd/run']);
    const shown = (...open: string[]) =>
      treeLines(tree, new Set(open)).map(({ node, level }) => [node.path, level]);
    expect(shown()).toEqual([
      ['a', 1],
      ['d', 1],
    ]);
    expect(shown('a', 'a/b/c', 'd')).toEqual([
      ['a', 1],
      ['a/b', 2],
      ['d', 1],
    ]);
    expect(shown(...above('a/b/c'))).toEqual([
      ['a', 1],
      ['a/b', 2],
      ['a/b/c', 3],
      ['d', 1],
    ]);
  });
});

it('knows ranks by their names', () => {
  expect(runOfRank('p/run/rank07')).toBe('p/run');
  expect(['p/run', 'p/rank', 'p/rankx', 'rank07', 'p/ranks/1', '/rank1'].map(runOfRank)).toEqual(
    Array(6).fill(null),
  );
});
