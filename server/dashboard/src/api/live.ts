/** GET /live as it comes and goes: which runs changed, and whether the service is there. */

import { Held, type News } from '../lib/held';

export type { News };
export type LiveStatus = 'connecting' | 'live' | 'away' | 'paused';

/** What of an EventSource is needed here. */
export interface Source {
  addEventListener(type: string, heard: (event: MessageEvent<string>) => void): void;
  close(): void;
}

/** The world around: replaced in tests. */
export interface Surroundings {
  open(): Source;
  /** Whether the service answers at all. */
  probe(): Promise<boolean>;
  after(ms: number, then: () => void): () => void;
  random(): number;
}

export interface Heard {
  status(status: LiveStatus): void;
  news(news: News): void;
  /** While paused: so many runs changed that are not told of yet; null: anything may have. */
  waiting(runs: number | null): void;
  /** The next try comes in so many milliseconds; null: none is planned, or it is under way. */
  next(ms: number | null): void;
}

const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 30_000;
/** A connection that died without a word shows only in silence: then the service is asked whether it is there. */
const SILENCE_MS_MAX = 20_000;
/** How long a page out of sight stays connected. */
const HIDDEN_MS_MAX = 60_000;

/**
 * Stays connected, whatever happens: after an error it tries again, ever more slowly, and sooner when asked to.
 *
 * Each connection begins with `hello`; as nothing is told of what changed before, it is passed on as news of anything.
 * Paused, it stays connected, and holds the news back until it goes on.
 */
export class Live {
  private source: Source | null = null;
  private cancel: (() => void) | null = null;
  private cancelHide: (() => void) | null = null;
  private tries = 0;
  private paused = false;
  private held = new Held();
  private asleep = false;
  private stopped = true;
  /** Whether the connection that holds now said hello. */
  private hailed = false;

  constructor(
    private readonly around: Surroundings,
    private readonly heard: Heard,
  ) {}

  start(): void {
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.cancelHide?.();
    this.disconnect();
  }

  pause(): void {
    this.paused = true;
    this.heard.waiting(0);
    if (this.hailed) this.heard.status('paused');
  }

  /** Go on: what was held back is told at once. */
  resume(): void {
    this.paused = false;
    const news = this.held.take();
    if (this.hailed) this.heard.status('live');
    if (news !== undefined) this.heard.news(news);
  }

  /** Try again at once: the network is back, or somebody asked. */
  retry(): void {
    this.tries = 0;
    if (this.source === null) this.connect();
  }

  /** Whether the page can be seen; out of sight for long, it lets the service be. */
  visible(is: boolean): void {
    this.cancelHide?.();
    this.cancelHide = null;
    if (!is) {
      this.cancelHide = this.around.after(HIDDEN_MS_MAX, () => {
        this.asleep = true;
        this.disconnect();
      });
    } else if (this.asleep) {
      this.asleep = false;
      this.retry();
    }
  }

  private connect(): void {
    this.disconnect();
    if (this.stopped || this.asleep) return;
    if (this.tries === 0) this.heard.status('connecting');
    this.heard.next(null);
    const source = (this.source = this.around.open());
    source.addEventListener('hello', () => this.of(source, () => this.greeted()));
    source.addEventListener('changed', (event) => this.of(source, () => this.told(event.data)));
    source.addEventListener('error', () => this.of(source, () => this.failed()));
    this.listen();
  }

  /** Only the connection that holds now is listened to. */
  private of(source: Source, then: () => void): void {
    if (source === this.source) then();
  }

  private greeted(): void {
    this.tries = 0;
    this.listen();
    this.hailed = true;
    this.heard.status(this.paused ? 'paused' : 'live');
    this.pass(null);
  }

  private pass(news: News): void {
    if (!this.paused) return this.heard.news(news);
    this.held.add(news);
    this.heard.waiting(this.held.count);
  }

  private told(data: string): void {
    this.listen();
    const { runs, deleted, resync } = JSON.parse(data) as {
      runs: string[];
      deleted: string[];
      resync: boolean;
    };
    this.pass(resync ? null : { runs, deleted });
  }

  private failed(): void {
    this.disconnect();
    this.heard.status('away');
    const most = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.tries++);
    const wait = most * (0.5 + this.around.random() / 2);
    this.heard.next(wait);
    this.cancel = this.around.after(wait, () => this.connect());
  }

  private listen(): void {
    this.cancel?.();
    const source = this.source;
    this.cancel = this.around.after(SILENCE_MS_MAX, () => {
      this.cancel = null;
      void this.around.probe().then((there) => {
        if (source === null || source !== this.source) return;
        if (there) this.listen();
        else this.failed();
      });
    });
  }

  private disconnect(): void {
    this.cancel?.();
    this.cancel = null;
    this.source?.close();
    this.source = null;
    this.hailed = false;
  }
}

/** The browser's own. */
export function browser(base: URL, probe: () => Promise<boolean>): Surroundings {
  return {
    open: () => new EventSource(new URL('api/v1/live', base)),
    probe,
    after(ms, then) {
      const id = setTimeout(then, ms);
      return () => clearTimeout(id);
    },
    random: Math.random,
  };
}
