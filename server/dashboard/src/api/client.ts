/** The service's API, typed; paths are relative to the page, so that any prefix a proxy adds holds. */
import { decode } from '@msgpack/msgpack';
import type { Answer } from '../lib/series';
import type { components, paths } from './schema';

export type Schemas = components['schemas'];
export type RunsQuery = NonNullable<paths['/api/v1/runs']['get']['parameters']['query']>;
export type RunPatch = Partial<Schemas['RunPatch']>;
export type QueryBody = Schemas['QueryBody'];
export type RunTable = Schemas['RunTablePage'];
export type RunPage = Omit<Schemas['RunPage'], 'runs'> & { runs: Schemas['RunRow'][] };
export type RunView = Schemas['RunView'];
export type RefusedPage = Schemas['RefusedPage'];
export type AlertsPage = Schemas['AlertsPage'];
export type IncidentsPage = Schemas['IncidentsPage'];
export type ServiceAnswer = Schemas['ServiceAnswer'];
export type TagsAnswer = Schemas['TagsAnswer'];
export type ColumnsAnswer = Schemas['ColumnsAnswer'];

/** Tags in one answer: more charts than anybody looks at. */
const TAGS_MAX = 5000;
const MSGPACK = 'application/msgpack';

/** An answer that says what went wrong; status 0: there was none. */
export class Problem extends Error {
  override readonly name = 'Problem';

  constructor(
    readonly status: number,
    readonly code: string,
    /** A sentence that says what is wrong and what to do. */
    message: string,
    readonly retryAfterS: number | null = null,
    /** The parameter that is wrong, and the character in it where that begins, from 1; null: nobody said. */
    readonly field: string | null = null,
    readonly position: number | null = null,
  ) {
    super(message);
  }
}

export class Client {
  /** base: where the page is, with a slash at its end; the service's other pages lie beside it. */
  constructor(
    readonly base: URL,
    /** Called when the service wants a token: the login is over. */
    private readonly loggedOut: () => void = () => {},
    private readonly fetching: typeof fetch = (...asked) => fetch(...asked),
  ) {}

  /** A page of the table; `query.columns` has to name columns. */
  async runs(query: RunsQuery, signal?: AbortSignal): Promise<RunTable> {
    return (await this.json('GET', `runs?${searched(query)}`, undefined, signal)) as RunTable;
  }

  /** Runs in short, with their configs: those of these names that there are. */
  async briefs(run: string[], signal?: AbortSignal): Promise<RunPage> {
    const query = searched({ run, limit: Math.max(1, run.length) });
    return (await this.json('GET', `runs?${query}`, undefined, signal)) as RunPage;
  }

  async run(name: string, signal?: AbortSignal): Promise<RunView> {
    return (await this.json('GET', `runs/${path(name)}`, undefined, signal)) as RunView;
  }

  async patch(name: string, changes: RunPatch, signal?: AbortSignal): Promise<RunView> {
    return (await this.json('PATCH', `runs/${path(name)}`, changes, signal)) as RunView;
  }

  async refused(name: string, signal?: AbortSignal): Promise<RefusedPage> {
    return (await this.json('GET', `refused/${path(name)}`, undefined, signal)) as RefusedPage;
  }

  /** The newest alerts of a run, newest first. */
  async alerts(name: string, most: number, signal?: AbortSignal): Promise<AlertsPage> {
    return (await this.json('GET', `alerts/${path(name)}?limit=${most}`, undefined, signal)) as AlertsPage;
  }

  /** What is wrong with runs now, newest first: of a project, or of all. */
  async incidents(project: string | null, most: number, signal?: AbortSignal): Promise<IncidentsPage> {
    const query = searched(project === null ? { limit: most } : { project, limit: most });
    return (await this.json('GET', `incidents?${query}`, undefined, signal)) as IncidentsPage;
  }

  /** What a page has to know of the service itself. */
  async service(signal?: AbortSignal): Promise<ServiceAnswer> {
    return (await this.json('GET', 'service', undefined, signal)) as ServiceAnswer;
  }

  /** Curves, in MessagePack. */
  async query(body: QueryBody, signal?: AbortSignal): Promise<Answer> {
    const response = await this.send('POST', 'query', body, MSGPACK, signal);
    return decode(new Uint8Array(await this.whole(response, signal))) as Answer;
  }

  /** Which tags these runs have. */
  async tags(runs: string[], signal?: AbortSignal): Promise<TagsAnswer> {
    return (await this.json('POST', 'tags', { runs, limit: TAGS_MAX }, signal)) as TagsAnswer;
  }

  /** What tables of a project's runs (null: of all) can show. */
  async columns(project: string | null, signal?: AbortSignal): Promise<ColumnsAnswer> {
    const query = project === null ? '' : `?${new URLSearchParams({ project })}`;
    return (await this.json('GET', `columns${query}`, undefined, signal)) as ColumnsAnswer;
  }

  /** Whether the service answers at all, within a time. */
  async isThere(timeoutMs: number): Promise<boolean> {
    try {
      const asked = { signal: AbortSignal.timeout(timeoutMs), cache: 'no-store' } as const;
      return (await this.fetching(new URL('healthz', this.base), asked)).ok;
    } catch {
      return false;
    }
  }

  /** End the login of this browser; the page asks for a token again. */
  async logOut(): Promise<void> {
    const asked = { method: 'POST', credentials: 'same-origin', redirect: 'manual' } as const;
    let response: Response;
    try {
      response = await this.fetching(new URL('logout', this.base), asked);
    } catch (error) {
      throw away(error, undefined);
    }
    if (response.type !== 'opaqueredirect' && !response.ok) throw await problemOf(response);
    this.loggedOut();
  }

  private async json(method: string, route: string, body?: unknown, signal?: AbortSignal): Promise<unknown> {
    const response = await this.send(method, route, body, 'application/json', signal);
    return JSON.parse(new TextDecoder().decode(await this.whole(response, signal)));
  }

  private async send(
    method: string,
    route: string,
    body: unknown,
    accept: string,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const headers: Record<string, string> = { Accept: accept };
    const asked: RequestInit = { method, headers, credentials: 'same-origin' };
    if (signal) asked.signal = signal;
    if (body !== undefined) {
      headers['Content-Type'] = 'application/json';
      asked.body = JSON.stringify(body);
    }
    let response: Response;
    try {
      response = await this.fetching(new URL(`api/v1/${route}`, this.base), asked);
    } catch (error) {
      throw away(error, signal);
    }
    if (response.status === 401) this.loggedOut();
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  private async whole(response: Response, signal: AbortSignal | undefined): Promise<ArrayBuffer> {
    try {
      return await response.arrayBuffer();
    } catch (error) {
      throw away(error, signal);
    }
  }
}

/** A run's name in a path: slashes stand as they are. */
export function path(run: string): string {
  return run.split('/').map(encodeURIComponent).join('/');
}

/** The parameters of a query: nothing for what is absent, one for each of several values. */
function searched(query: RunsQuery): URLSearchParams {
  const values = (value: unknown) => (Array.isArray(value) ? value : [value]) as unknown[];
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    values(value).flatMap((one) => (one === null || one === undefined ? [] : [[name, String(one)]])),
  );
  return new URLSearchParams(pairs);
}

function away(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return error;
  return new Problem(0, 'no_answer', 'The service does not answer.');
}

async function problemOf(response: Response): Promise<Problem> {
  const after = Number(response.headers.get('Retry-After') ?? NaN);
  let [field, position]: [string | null, number | null] = [null, null];
  let [code, detail] = ['http_error', `The service answered ${response.status} ${response.statusText}.`];
  try {
    const said = (await response.json()) as Partial<Schemas['Problem']>;
    if (typeof said.code === 'string') code = said.code;
    if (typeof said.detail === 'string') detail = said.detail;
    if (typeof said.field === 'string') field = said.field;
    if (typeof said.position === 'number') position = said.position;
  } catch {
    // No problem document: something between page and service answered.
  }
  const wait = Number.isFinite(after) ? after : null;
  return new Problem(response.status, code, detail, wait, field, position);
}
