import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Held, type News } from '../src/lib/held';

const name = fc.constantFrom('a', 'b', 'c', 'd');
const news: fc.Arbitrary<News> = fc.oneof(
  { weight: 9, arbitrary: fc.record({ runs: fc.array(name), deleted: fc.array(name) }) },
  { weight: 1, arbitrary: fc.constant(null) },
);

describe('news that are held', () => {
  it('say of each run what came last', () => {
    fc.assert(
      fc.property(fc.array(news), (all) => {
        const held = new Held();
        const last = new Map<string, boolean>();
        for (const one of all) {
          held.add(one);
          one?.runs.forEach((run) => last.set(run, true));
          one?.deleted.forEach((run) => last.set(run, false));
        }
        const anything = all.includes(null);
        expect(held.count).toBe(anything ? null : last.size);
        const taken = held.take();
        if (anything || !last.size) expect(taken).toBe(anything ? null : undefined);
        else {
          const of = (changed: boolean) => [...last.keys()].filter((run) => last.get(run) === changed).sort();
          expect([taken!.runs.toSorted(), taken!.deleted.toSorted()]).toEqual([of(true), of(false)]);
        }
        expect([held.count, held.take()]).toEqual([0, undefined]);
      }),
    );
  });

  it('are of anything when they are of very many runs', () => {
    const held = new Held();
    held.add({ runs: Array.from({ length: 2_001 }, (_, i) => `r${i}`), deleted: [] });
    expect([held.count, held.take()]).toEqual([null, null]);
  });
});
