import { describe, expect, it } from 'vitest';
import { Live, type LiveStatus, type News, type Source } from '../src/api/live';

/** A world of its own: connections that a test opens and breaks, and a clock that it moves. */
class World {
  now = 0;
  there = true;
  sources: Fake[] = [];
  statuses: LiveStatus[] = [];
  news: News[] = [];
  waiting: number | null = 0;
  waits: (number | null)[] = [];
  private timers: { at: number; then: () => void }[] = [];
  live = new Live(
    {
      open: () => this.sources[this.sources.push(new Fake()) - 1]!,
      probe: () => Promise.resolve(this.there),
      after: (ms, then) => {
        const timer = { at: this.now + ms, then };
        this.timers.push(timer);
        return () => (this.timers = this.timers.filter((other) => other !== timer));
      },
      random: () => 1,
    },
    {
      status: (status) => this.statuses.push(status),
      news: (news) => this.news.push(news),
      waiting: (runs) => (this.waiting = runs),
      next: (ms) => this.waits.push(ms),
    },
  );

  get last(): Fake {
    return this.sources.at(-1)!;
  }

  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      const next = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.now = next.at;
      this.timers = this.timers.filter((timer) => timer !== next);
      next.then();
      await Promise.resolve();
      await Promise.resolve();
    }
    this.now = until;
  }
}

class Fake implements Source {
  closed = false;
  private heard = new Map<string, (event: MessageEvent<string>) => void>();

  addEventListener(type: string, heard: (event: MessageEvent<string>) => void): void {
    this.heard.set(type, heard);
  }

  close(): void {
    this.closed = true;
  }

  say(type: string, data: unknown = {}): void {
    this.heard.get(type)?.({ data: JSON.stringify(data) } as MessageEvent<string>);
  }
}

function connected(): World {
  const world = new World();
  world.live.start();
  world.last.say('hello');
  return world;
}

describe('Live', () => {
  it('takes each hello for news of anything, then tells what changed', () => {
    const world = connected();
    world.last.say('changed', { runs: ['a'], deleted: ['b'], resync: false });
    world.last.say('changed', { runs: [], deleted: [], resync: true });
    expect(world.news).toEqual([null, { runs: ['a'], deleted: ['b'] }, null]);
    expect(world.statuses).toEqual(['connecting', 'live']);
  });

  it('tries again ever more slowly, and at once when asked to', async () => {
    const world = connected();
    world.last.say('error');
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      const [begun, count] = [world.now, world.sources.length];
      while (world.sources.length === count) await world.pass(100);
      waits.push(world.now - begun);
      world.last.say('error');
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    expect(world.sources.slice(0, -1).every((source) => source.closed)).toBe(true);
    world.live.retry();
    world.last.say('hello');
    expect(world.statuses.at(-1)).toBe('live');
    expect(world.news).toEqual([null, null]);
  });

  it('does not open a second connection beside one that holds', () => {
    const world = connected();
    world.live.retry();
    world.live.visible(true);
    expect(world.sources).toHaveLength(1);
  });

  it('asks in silence whether the service is there, and is away if not', async () => {
    const world = connected();
    await world.pass(60_000);
    expect(world.statuses.at(-1)).toBe('live');
    world.there = false;
    await world.pass(20_000);
    expect(world.statuses.at(-1)).toBe('away');
    expect(world.sources[0]!.closed).toBe(true);
  });

  it('holds the news back while it is paused, and counts them', () => {
    const world = connected();
    world.live.pause();
    world.last.say('changed', { runs: ['a', 'b'], deleted: [], resync: false });
    world.last.say('changed', { runs: ['b'], deleted: ['a'], resync: false });
    expect([world.news, world.waiting]).toEqual([[null], 2]);
    world.live.resume();
    expect(world.news).toEqual([null, { runs: ['b'], deleted: ['a'] }]);
    world.live.pause();
    world.live.resume();
    expect(world.news).toHaveLength(2);
    expect(world.statuses).toEqual(['connecting', 'live', 'paused', 'live', 'paused', 'live']);
  });

  it('stays connected while it is paused, and says so when the service is away', async () => {
    const world = connected();
    world.live.pause();
    world.last.say('error');
    expect(world.statuses.at(-1)).toBe('away');
    world.live.resume();
    world.live.pause();
    await world.pass(1_000);
    world.last.say('hello');
    expect([world.statuses.at(-1), world.news, world.waiting]).toEqual(['paused', [null], null]);
    world.live.resume();
    expect(world.news).toEqual([null, null]);
  });

  it('says when it will try again', async () => {
    const world = connected();
    world.last.say('error');
    await world.pass(1_000);
    world.last.say('error');
    expect(world.waits).toEqual([null, 1_000, null, 2_000]);
  });

  it('lets the service be while nobody looks', async () => {
    const world = connected();
    world.live.visible(false);
    await world.pass(59_000);
    expect(world.last.closed).toBe(false);
    await world.pass(2_000);
    expect(world.last.closed).toBe(true);
    world.live.visible(true);
    expect(world.sources).toHaveLength(2);
  });

  it('hears nothing of a connection that it left, nor after its end', async () => {
    const world = connected();
    const old = world.last;
    old.say('error');
    old.say('changed', { runs: ['a'], deleted: [], resync: false });
    world.live.stop();
    await world.pass(100_000);
    expect(world.news).toEqual([null]);
    expect(world.sources).toHaveLength(1);
  });
});
