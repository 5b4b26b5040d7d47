import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Client, RunsQuery, RunTable } from '../src/api/client';
import { merged, Table, tableQuery } from '../src/state/table.svelte';
import { DEFAULT } from '../src/lib/view';

/** A service with some runs, which remembers what it was asked. */
class Fake {
  values = new Map<string, number>([
    ['a', 1],
    ['b', 1],
  ]);
  asked: RunsQuery[] = [];

  runs = (query: RunsQuery): Promise<RunTable> => {
    this.asked.push(query);
    const names = [...this.values.keys()].filter((name) => !query.run || query.run.includes(name));
    const rows = names.map((name) => [name, this.values.get(name)]);
    return Promise.resolve({ columns: ['name', 'x'], rows, cursor: null });
  };
}

const QUERY = tableQuery(DEFAULT, ['x']);

function made(): [Fake, Table] {
  const fake = new Fake();
  return [fake, new Table(fake as unknown as Client)];
}

function values(table: Table): unknown[] {
  return table.rows.map(({ name, values }) => [name, values['x']]);
}

describe('a table', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('asks again for runs that changed, came or went, and for no others', async () => {
    const [fake, table] = made();
    table.ask(QUERY);
    await vi.advanceTimersByTimeAsync(0);
    fake.values = new Map([
      ['b', 2],
      ['c', 3],
    ]);
    table.changed({ runs: ['b', 'c'], deleted: ['a'] });
    table.changed({ runs: ['b'], deleted: [] });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(fake.asked.map(({ run }) => run)).toEqual([undefined, ['b', 'c', 'a']]);
    expect(values(table)).toEqual([
      ['b', 2],
      ['c', 3],
    ]);
  });

  it('asks for all when anything may have changed, or too many did', async () => {
    const [fake, table] = made();
    table.ask(QUERY);
    await vi.advanceTimersByTimeAsync(0);
    table.changed(null);
    await vi.advanceTimersByTimeAsync(1_000);
    table.changed({ runs: Array.from({ length: 101 }, (_, i) => `r${i}`), deleted: [] });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(fake.asked.map(({ run }) => run)).toEqual([undefined, undefined, undefined]);
  });

  it('does not ask for what another question has brought already', async () => {
    const [fake, table] = made();
    table.ask(QUERY);
    await vi.advanceTimersByTimeAsync(0);
    table.changed({ runs: ['a'], deleted: [] });
    table.ask(tableQuery({ ...DEFAULT, filter: 'x > 0' }, ['x']));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(fake.asked.map(({ filter, run }) => [filter, run])).toEqual([
      [undefined, undefined],
      ['x > 0', undefined],
    ]);
    expect(values(table)).toHaveLength(2);
  });

  it('asks nothing when nobody looks', async () => {
    const [fake, table] = made();
    table.ask(QUERY);
    await vi.advanceTimersByTimeAsync(0);
    table.ask(null);
    table.changed(null);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(fake.asked).toHaveLength(1);
  });

  it('has new values in place, new rows at the end, and no longer what is not found', () => {
    const row = (name: string, x: number) => ({ name, values: { x } });
    const news = [row('d', 2), row('b', 2)];
    const rows = merged([row('a', 1), row('b', 1), row('c', 1)], news, new Set(['b', 'c', 'd']));
    expect(rows).toEqual([row('a', 1), row('b', 2), row('d', 2)]);
  });
});
