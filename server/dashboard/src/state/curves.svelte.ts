/** The answer to one question about one tag, kept up to date by what is new of it. */
import type { Client, QueryBody } from '../api/client';
import type { News } from '../api/live';
import type { Gate } from '../lib/gate';
import { apply, bandsOf, FIELDS, type Band, type Lines } from '../lib/series';
import { Loading } from './loading.svelte';

/** After so many samples more than buckets were asked for, a line is asked for anew: else it would grow without end. */
const APPENDED_SHARE_MAX = 1;

export class Curves {
  /** Lines by `lineKey`; replaced as a whole. */
  lines = $state.raw<Lines>(new Map());
  /** Instead of lines, if runs are grouped. */
  bands = $state.raw<readonly Band[]>([]);
  /** The question that lines and bands are the answer to; null before the first answer. */
  answered = $state.raw<QueryBody | null>(null);
  /** Whether that is the present question. */
  known = $state(false);
  /** How many of the runs do not have the counter that x is. */
  lacking = $state(0);
  readonly loading = new Loading();
  private question: QueryBody | null = null;
  private asked = '';
  private cursor: string | null = null;
  private stale = false;

  constructor(
    private readonly client: Client,
    private readonly gate: Gate,
  ) {}

  /** Ask this; if it is asked already, only for what is new since, if anything may be (and if news are wanted). */
  ask(question: QueryBody, news = true): void {
    const asked = JSON.stringify(question);
    if (asked === this.asked && !(this.stale && news)) return;
    this.stale = false;
    if (asked === this.asked) {
      this.loading.follow((signal) => this.read(question, signal));
      return;
    }
    this.asked = asked;
    this.question = question;
    this.cursor = null;
    this.known = false;
    this.loading.replace((signal) => this.read(question, signal));
  }

  /** Ask again at once, after a problem. */
  retry(): void {
    const question = this.question;
    if (question) this.loading.replace((signal) => this.read(question, signal));
  }

  /** Nobody looks: what is under way is left, and asked for when somebody does. */
  rest(): void {
    if (!this.loading.busy && this.loading.problem === null) return;
    this.loading.cancel();
    if (this.known) this.stale = true;
    else this.asked = '';
  }

  /** Some runs changed; whether that concerns this. The next `ask` then brings what is new. */
  changed(news: News): boolean {
    if (!this.question) return false;
    const runs = new Set(this.question.runs);
    if (news === null || [...news.runs, ...news.deleted].some((run) => runs.has(run))) this.stale = true;
    return this.stale;
  }

  private async read(question: QueryBody, signal: AbortSignal): Promise<void> {
    const since = this.cursor !== null && !this.isLong(question) ? this.cursor : null;
    const asked: QueryBody = since === null ? question : { ...question, since };
    const answer = await this.gate.run(() => this.client.query(asked, signal), signal);
    const lines: Lines = since === null ? new Map() : new Map(this.lines);
    const { changed, gone, cursor } = apply(lines, answer);
    this.cursor = cursor;
    if (since === null || changed.length || gone.length) this.lines = lines;
    this.bands = bandsOf(answer);
    this.lacking = answer.missing.filter(({ x }) => x !== undefined).length;
    this.answered = question;
    this.known = true;
  }

  private isLong(question: QueryBody): boolean {
    const most = (question.buckets ?? Infinity) * APPENDED_SHARE_MAX;
    return [...this.lines.values()].some((line) => line.appended > most);
  }
}

/** A question about lines, answered with the columns that lines hold. */
export function leanly(question: QueryBody): QueryBody {
  return { ...question, fields: [...FIELDS] };
}
