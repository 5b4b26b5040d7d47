import { describe, expect, it } from 'vitest';
import type { Client, QueryBody } from '../src/api/client';
import { Gate } from '../src/lib/gate';
import { Chart } from '../src/state/charts.svelte';
import { Curves } from '../src/state/curves.svelte';
import { Cursor } from '../src/state/cursor.svelte';

/** A chart whose questions wait until they are answered. */
function kit() {
  const asked: { question: QueryBody; answer: (missing?: { run: string; x?: string }[]) => Promise<void> }[] =
    [];
  const client = {
    query: (question: QueryBody, signal: AbortSignal) =>
      new Promise((done, failed) => {
        signal.addEventListener('abort', () => failed(signal.reason as Error));
        const answer = async (missing: object[] = []) => {
          done({ x: question.x, series: [], missing, cursor: `after ${asked.length}` });
          await new Promise((later) => setTimeout(later));
        };
        asked.push({ question, answer });
      }),
  } as unknown as Client;
  const gate = new Gate(9);
  return { asked, chart: new Chart('loss', () => new Curves(client, gate)) };
}

const question: QueryBody = { runs: ['a'], tags: ['loss'], x: 'step', buckets: 100 };
const settle = () => new Promise((later) => setTimeout(later));

describe('a chart', () => {
  it('shows all of x until the detail is there, and an earlier detail while it covers a zoom', async () => {
    const { asked, chart } = kit();
    chart.ask(question, null);
    await settle();
    await asked[0]!.answer();
    expect([chart.shown, chart.wanted.known]).toEqual([chart.whole, true]);

    chart.ask(question, [10.5, 20]);
    await settle();
    expect(asked.map(({ question }) => [question.from, question.to])).toEqual([[undefined, undefined], [10, 20]]); // prettier-ignore
    expect([chart.shown === chart.whole, chart.wanted.known]).toEqual([true, false]);
    await asked[1]!.answer();
    expect(chart.shown).toBe(chart.detail);

    chart.ask(question, [12, 14]);
    await settle();
    expect([chart.shown === chart.detail, chart.wanted.known]).toEqual([true, false]);
    chart.ask(question, [2, 14]);
    expect(chart.shown).toBe(chart.whole);
    chart.ask(question, null);
    expect([chart.detail, chart.shown, chart.wanted.known]).toEqual([null, chart.whole, true]);
  });

  it('keeps what it shows while another question is on its way', async () => {
    const { asked, chart } = kit();
    chart.ask(question, null);
    await settle();
    await asked[0]!.answer([{ run: 'b' }, { run: 'c', x: 'step' }]);
    expect(chart.whole.lacking).toBe(1);
    chart.ask({ ...question, x: 'epoch' }, null);
    expect([chart.wanted.known, chart.shown.answered?.x]).toEqual([false, 'step']);
    await settle();
    await asked[1]!.answer();
    expect([chart.wanted.known, chart.shown.answered?.x, chart.whole.lacking]).toEqual([true, 'epoch', 0]);
  });

  it('asks only for what is new when there are news of its runs', async () => {
    const { asked, chart } = kit();
    chart.ask(question, null);
    await settle();
    await asked[0]!.answer();
    expect(chart.changed({ runs: ['z'], deleted: [] })).toBe(false);
    chart.ask(question, null);
    expect(asked).toHaveLength(1);
    expect(chart.changed({ runs: ['a'], deleted: [] })).toBe(true);
    chart.ask(question, null);
    await settle();
    expect(asked[1]!.question).toEqual({ ...question, since: 'after 1' });
  });

  it('out of sight lets go of what is on its way, and asks again when it is back', async () => {
    const { asked, chart } = kit();
    chart.ask(question, null);
    await settle();
    chart.rest();
    expect(chart.whole.loading.busy).toBe(false);
    chart.ask(question, null);
    await settle();
    await asked[1]!.answer();
    expect([asked.length, chart.whole.known]).toEqual([2, true]);
  });
});

describe('the cursor', () => {
  const at = { axis: 'step', x: 3, chart: {} };

  it('stays where it was pinned until it is let go', () => {
    const cursor = new Cursor();
    cursor.togglePin();
    expect(cursor.pinned).toBe(false); // nowhere to stay
    cursor.move(at, 'a');
    cursor.togglePin();
    cursor.move({ ...at, x: 9 }, 'b');
    cursor.leave();
    expect([cursor.at, cursor.lit, cursor.pinned]).toEqual([at, 'a', true]);
    cursor.release();
    expect([cursor.at, cursor.lit, cursor.pinned]).toEqual([null, null, false]);
  });
});
