import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Problem, type Client, type RunPatch, type RunsQuery } from '../src/api/client';
import { Clock } from '../src/state/clock.svelte';
import { Edits } from '../src/state/edits.svelte';
import { Projects } from '../src/state/projects.svelte';
import { Runs } from '../src/state/runs.svelte';
import { Toasts } from '../src/state/toasts.svelte';
import { ViewState } from '../src/state/view.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const SECOND = 1_000;

/** A table as the service has it: runs with a loss, a filter that may be wrong, pages of a size of its own. */
class Service {
  readonly losses = new Map<string, number>();
  readonly asked: RunsQuery[] = [];
  readonly patched: [string, RunPatch][] = [];
  readonly faulty = new Set<string>();
  pageSize = 5_000;

  readonly client = {
    runs: async (query: RunsQuery) => {
      this.asked.push(query);
      if (query.filter === 'wrong') throw new Problem(422, 'invalid_query', 'it is wrong', null, 'filter', 1);
      const columns = query.columns!.split(',');
      const all = [...this.losses].filter(([name]) => !query.run || query.run.includes(name));
      all.sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1));
      const start = Number(query.cursor ?? 0);
      const end = start + this.pageSize;
      const cell = (name: string, loss: number, column: string) =>
        ({ name, 'last.loss': loss, created_at: 100, age: 50 })[column] ?? null;
      return {
        columns,
        rows: all.slice(start, end).map(([name, loss]) => columns.map((column) => cell(name, loss, column))),
        cursor: end < all.length ? String(end) : null,
      };
    },
    patch: async (run: string, changes: RunPatch) => {
      if (this.faulty.has(run)) throw new Problem(404, 'run_not_found', 'there is no run');
      this.patched.push([run, changes]);
    },
  } as unknown as Client;
}

function pageOf(query = '?sort=last.loss') {
  const service = new Service();
  const window = {
    location: { search: query, pathname: '/', hash: '' },
    history: { replaceState() {} },
  } as unknown as Window;
  const view = new ViewState(window);
  const clock = new Clock();
  const runs = new Runs(service.client, view, clock);
  const load = async () => {
    runs.load(runs.question);
    await vi.advanceTimersByTimeAsync(0);
  };
  const names = () => runs.rows.map((row) => row.name);
  return { service, view, runs, clock, load, names };
}

describe('the table of runs', () => {
  it('asks only for runs that changed, and puts them where they belong', async () => {
    const { service, runs, load, names } = pageOf();
    ['a', 'b', 'c'].forEach((name, i) => service.losses.set(name, i));
    await load();
    expect(names()).toEqual(['a', 'b', 'c']);
    service.losses.set('a', 1.5).delete('b');
    service.losses.set('new', -1);
    runs.changed({ runs: ['a', 'new'], deleted: [] });
    runs.changed({ runs: [], deleted: ['b'] });
    await vi.advanceTimersByTimeAsync(SECOND);
    expect(service.asked).toHaveLength(2);
    expect(service.asked[1]!.run).toEqual(['a', 'new', 'b']);
    expect(names()).toEqual(['new', 'a', 'c']);
  });

  it('asks for all of it if anything, or very many, may have changed', async () => {
    const { service, runs, load, names } = pageOf();
    service.losses.set('a', 0);
    await load();
    service.losses.set('b', 1);
    runs.changed(null);
    await vi.advanceTimersByTimeAsync(SECOND);
    expect(service.asked[1]!.run).toBeUndefined();
    expect(names()).toEqual(['a', 'b']);
    runs.changed({ runs: Array.from({ length: 101 }, (_, i) => `r${i}`), deleted: [] });
    await vi.advanceTimersByTimeAsync(SECOND);
    expect(service.asked[2]!.run).toBeUndefined();
  });

  it('keeps what it has while a filter is wrong, goes on with it, and asks nothing wrong again', async () => {
    const { service, view, runs, load, names } = pageOf();
    service.losses.set('a', 0);
    await load();
    view.update({ filter: 'wrong' });
    await load();
    expect(runs.refusal).toMatchObject({ field: 'filter', position: 1 });
    service.losses.set('b', 1);
    runs.changed({ runs: ['b'], deleted: [] });
    await vi.advanceTimersByTimeAsync(SECOND);
    expect(names()).toEqual(['a', 'b']);
    expect(runs.refusal).not.toBeNull();
    expect(service.asked.filter(({ filter }) => filter === 'wrong')).toHaveLength(1);
    view.update({ filter: '' });
    await load();
    expect(runs.refusal).toBeNull();
  });

  it('loads page after page, and as many again', async () => {
    const { service, runs, load, names } = pageOf();
    service.pageSize = 2;
    ['a', 'b', 'c', 'd', 'e'].forEach((name, i) => service.losses.set(name, i));
    await load();
    expect([names(), runs.more]).toEqual([['a', 'b'], true]);
    runs.loadMore();
    await vi.advanceTimersByTimeAsync(0);
    runs.changed(null);
    await vi.advanceTimersByTimeAsync(SECOND);
    expect([names(), runs.more]).toEqual([['a', 'b', 'c', 'd'], true]);
    runs.loadMore();
    await vi.advanceTimersByTimeAsync(0);
    expect([names().length, runs.more]).toEqual([5, false]);
  });

  it('tells the service’s time, and asks for what its columns need', async () => {
    const { service, clock, load } = pageOf(
      '?sort=-last.loss&columns=counters.step&columns=idle&rows=net.depth',
    );
    service.losses.set('a', 0);
    await load();
    expect(clock.now).toBe(150);
    expect(service.asked[0]!.columns!.split(',')).toEqual(
      expect.arrayContaining([
        'last.loss',
        'config.net.depth',
        'totals.step',
        'rates.step',
        'last_seen',
        'name',
      ]),
    );
  });

  it('selects runs in the table’s order, those that are elsewhere last', async () => {
    const { service, runs, load } = pageOf('?sort=last.loss&run=gone&run=b&run=a');
    ['a', 'b', 'c'].forEach((name, i) => service.losses.set(name, i));
    await load();
    expect(runs.selected).toEqual(['a', 'b', 'gone']);
    runs.selectAll(true);
    runs.selectMany(['b', 'c'], false);
    expect(runs.selected).toEqual(['a']);
    expect(runs.isSelected('never seen')).toBe(true);
  });
});

describe('edits', () => {
  function editing() {
    const service = new Service();
    const toasts = new Toasts();
    const told: string[][] = [];
    const archived: [string[], boolean][] = [];
    const edits = new Edits(
      service.client,
      toasts,
      (runs) => told.push([...runs]),
      (runs, is) => archived.push([[...runs], is]),
    );
    return { service, toasts, told, archived, edits };
  }

  it('archive runs, say so, and take it back', async () => {
    const { service, toasts, told, archived, edits } = editing();
    await edits.archive(['a', 'b'], true);
    expect(toasts.shown.map(({ text }) => text)).toEqual(['2 runs archived.']);
    toasts.undo(toasts.shown[0]!);
    await vi.advanceTimersByTimeAsync(0);
    expect(service.patched).toEqual([
      ['a', { archived: true }],
      ['b', { archived: true }],
      ['a', { archived: false }],
      ['b', { archived: false }],
    ]);
    expect(toasts.shown).toEqual([]);
    expect(told).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ]);
    expect(archived).toEqual([
      [['a', 'b'], true],
      [['a', 'b'], false],
    ]);
    expect(edits.left).toBe(0);
  });

  it('say what could not be done, and undo only what was', async () => {
    const { service, toasts, edits } = editing();
    service.faulty.add('b');
    await edits.archive(['a', 'b'], true);
    expect(toasts.shown.map(({ text, bad }) => [text, bad])).toEqual([
      ['1 run could not be changed: there is no run', true],
      ['1 run archived.', false],
    ]);
    toasts.undo(toasts.shown[1]!);
    await vi.advanceTimersByTimeAsync(0);
    expect(service.patched.map(([run]) => run)).toEqual(['a', 'a']);
  });

  it('of one run are undone by what was there before', async () => {
    const { service, toasts, edits } = editing();
    expect(await edits.change('a', { notes: 'new' }, { notes: null }, 'Saved.')).toBe(true);
    toasts.undo(toasts.shown[0]!);
    await vi.advanceTimersByTimeAsync(0);
    expect(service.patched).toEqual([
      ['a', { notes: 'new' }],
      ['a', { notes: null }],
    ]);
    service.faulty.add('a');
    expect(await edits.change('a', { notes: 'x' }, { notes: null }, 'Saved.')).toBe(false);
  });
});

describe('toasts', () => {
  it('go by themselves, but not while somebody is at them, and never pile up', async () => {
    const toasts = new Toasts();
    ['a', 'b', 'c', 'd', 'e'].forEach((text) => toasts.say(text));
    expect(toasts.shown.map(({ text }) => text)).toEqual(['b', 'c', 'd', 'e']);
    const held = toasts.shown[0]!;
    toasts.hold(held);
    await vi.advanceTimersByTimeAsync(60 * SECOND);
    expect(toasts.shown).toEqual([held]);
    toasts.release(held);
    await vi.advanceTimersByTimeAsync(60 * SECOND);
    expect(toasts.shown).toEqual([]);
  });
});

describe('projects', () => {
  it('are counted whatever the filter, and again when runs come or go', async () => {
    const service = new Service();
    ['p/a', 'p/a/rank0', 'q/b'].forEach((name) => service.losses.set(name, 0));
    const projects = new Projects(service.client);
    projects.load(false);
    await vi.advanceTimersByTimeAsync(0);
    expect(projects.nodes.map(({ path, count }) => [path, count])).toEqual([
      ['p', 1],
      ['q', 1],
    ]);
    projects.changed({ runs: ['p/a'], deleted: [] });
    await vi.advanceTimersByTimeAsync(60 * SECOND);
    expect(service.asked).toHaveLength(1);
    service.losses.set('q/c', 0);
    projects.changed({ runs: ['q/c'], deleted: [] });
    await vi.advanceTimersByTimeAsync(60 * SECOND);
    expect([service.asked.length, projects.count]).toEqual([2, 3]);
    expect(service.asked[1]).toMatchObject({ columns: 'name', archived: false });
  });
});
