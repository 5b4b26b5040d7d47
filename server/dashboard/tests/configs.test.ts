import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compare, documentsOf, jsonOf, leavesOf, markdownOf } from '../src/lib/configs';
import { partsOf } from '../src/lib/expression';

const document = fc.dictionary(
  fc.string({ minLength: 1, maxLength: 6 }),
  fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(1, 2)),
  { maxKeys: 5 },
) as fc.Arbitrary<Record<string, unknown>>;
const runs = fc
  .array(document, { minLength: 1, maxLength: 4 })
  .map((configs) => configs.map((config, i) => ({ name: `r${i}`, config })));

describe('configs side by side', () => {
  const two = [
    { name: 'p/a', config: { lr: 0.1, opt: { name: 'adam', eps: 1 }, seed: 0 } },
    { name: 'p/b', config: { lr: 0.2, opt: { eps: 1, name: 'adam' }, amp: true, seed: 0 } },
    { name: 'p/c', config: { lr: 0.1, opt: { name: 'adam', eps: 1 }, seed: 0 } },
  ];

  it('show first what differs, and how many have the same', () => {
    expect(compare(two)).toEqual([
      { key: 'amp', values: [undefined, true, undefined], differs: true, same: [2, 1, 2] },
      { key: 'lr', values: [0.1, 0.2, 0.1], differs: true, same: [2, 1, 2] },
      { key: 'opt.eps', values: [1, 1, 1], differs: false, same: [3, 3, 3] },
      { key: 'opt.name', values: ['adam', 'adam', 'adam'], differs: false, same: [3, 3, 3] },
      { key: 'seed', values: [0, 0, 0], differs: false, same: [3, 3, 3] },
    ]);
  });

  it('differ where brute force finds a difference, and lose no value', () => {
    fc.assert(
      fc.property(runs, (given) => {
        const at = (config: unknown, key: string) =>
          partsOf(key).reduce<unknown>(
            (value, part) => (Object.hasOwn(value as object, part) ? (value as never)[part] : undefined),
            config,
          );
        const lines = compare(given);
        for (const { key, values, differs } of lines) {
          expect(differs).toBe(new Set(values.map(jsonOf)).size > 1);
          const wanted = given.map(({ config }) => {
            try {
              return at(config, key);
            } catch {
              return undefined; // no object on the way
            }
          });
          values.forEach((value, i) => {
            if (value !== undefined) expect(jsonOf(value)).toBe(jsonOf(wanted[i]));
          });
        }
        const all = given.flatMap(({ config }) => leavesOf(config).map(([key]) => key));
        expect(lines.map(({ key }) => key).sort()).toEqual([...new Set(all)].sort());
      }),
    );
  });

  it('do not differ by the order of keys inside a value', () => {
    const lists = [[{ a: 1, b: 2 }], [{ b: 2, a: 1 }]];
    expect(compare(lists.map((x, i) => ({ name: `${i}`, config: { x } })))[0]!.differs).toBe(false);
  });

  it('tell null from nothing', () => {
    const found = compare([
      { name: 'a', config: { x: null } },
      { name: 'b', config: {} },
    ]);
    expect(found).toMatchObject([{ key: 'x', differs: true }]);
  });

  it('become Markdown in which nothing breaks out of its cell', () => {
    const config = { 'a|b': '<b>\n| *x*', same: 1 };
    const text = markdownOf([
      { name: 'p/x_1', config },
      { name: 'p/y', config: { same: 1 } },
    ]);
    expect(text).toBe(
      '| config | p/x\\_1 | p/y |\n| --- | --- | --- |\n| **a\\|b** | \\<b\\> \\| \\*x\\* |  |\n| same | 1 | 1 |\n',
    );
  });

  it('become JSON as they are', () => {
    fc.assert(
      fc.property(runs, (given) => {
        const wanted = Object.fromEntries(given.map(({ name, config }) => [name, config]));
        expect(JSON.parse(documentsOf(given))).toEqual(JSON.parse(JSON.stringify(wanted)));
      }),
    );
  });
});
