import { encode } from '@msgpack/msgpack';
import { expect, it, vi } from 'vitest';
import { Client, path, Problem } from '../src/api/client';

const BASE = new URL('https://lab.example/tally/');

function answering(answer: () => Response | Promise<Response>) {
  const asked: { url: string; init: RequestInit }[] = [];
  const loggedOut = vi.fn();
  const client = new Client(BASE, loggedOut, (url, init) => {
    asked.push({ url: String(url), init: init ?? {} });
    return Promise.resolve().then(answer);
  });
  return { client, asked, loggedOut };
}

it('asks below the page’s own address, whatever it is', async () => {
  const { client, asked } = answering(() => Response.json({ columns: ['name'], rows: [], cursor: null }));
  await client.runs({ columns: 'name', filter: 'config.lr < 0.1', archived: false });
  expect(asked[0]!.url).toBe(
    'https://lab.example/tally/api/v1/runs?columns=name&filter=config.lr+%3C+0.1&archived=false',
  );
});

it('writes names of runs into paths so that slashes stand as they are', () => {
  expect(path('mnist/a b/ü?#%')).toBe('mnist/a%20b/%C3%BC%3F%23%25');
});

it('reads curves as MessagePack, and sends the question as JSON', async () => {
  const { client, asked } = answering(() => new Response(encode({ x: 'step', series: [], missing: [] })));
  expect(await client.query({ runs: ['a'], tags: ['loss'] })).toEqual({ x: 'step', series: [], missing: [] });
  expect(asked[0]!.init).toMatchObject({
    method: 'POST',
    body: '{"runs":["a"],"tags":["loss"]}',
    headers: { Accept: 'application/msgpack', 'Content-Type': 'application/json' },
  });
});

it('says what the service says is wrong', async () => {
  const said = { code: 'still_reading', detail: 'Reading takes long; ask again', status: 503 };
  const { client } = answering(() => Response.json(said, { status: 503, headers: { 'Retry-After': '7' } }));
  const problem: unknown = await client.run('a').catch((error: unknown) => error);
  expect(problem).toEqual(new Problem(503, 'still_reading', 'Reading takes long; ask again', 7));
});

it('says so when something else answers, or nothing does', async () => {
  const proxy = answering(
    () => new Response('<h1>Bad Gateway</h1>', { status: 502, statusText: 'Bad Gateway' }),
  );
  await expect(proxy.client.run('a')).rejects.toThrow('The service answered 502 Bad Gateway.');
  const away = answering(() => Promise.reject(new TypeError('Failed to fetch')));
  await expect(away.client.run('a')).rejects.toThrow(
    new Problem(0, 'no_answer', 'The service does not answer.'),
  );
  expect(await away.client.isThere(100)).toBe(false);
});

it('leaves the fault of whoever gave up as it is', async () => {
  const gave = new AbortController();
  const { client } = answering(() => {
    gave.abort();
    return Promise.reject(new DOMException('aborted', 'AbortError'));
  });
  await expect(client.run('a', gave.signal)).rejects.toThrow(DOMException);
});

it('notices that the login is over', async () => {
  const { client, loggedOut } = answering(() =>
    Response.json({ code: 'unauthorized', detail: 'no' }, { status: 401 }),
  );
  await expect(client.run('a')).rejects.toThrow(Problem);
  expect(loggedOut).toHaveBeenCalledOnce();
});

it('logs out at the service before the page asks for a token again', async () => {
  const { client, asked, loggedOut } = answering(() => new Response(null, { status: 204 }));
  await client.logOut();
  expect(asked).toEqual([
    {
      url: 'https://lab.example/tally/logout',
      init: { method: 'POST', credentials: 'same-origin', redirect: 'manual' },
    },
  ]);
  expect(loggedOut).toHaveBeenCalledOnce();
  const busy = answering(() => Response.json({ code: 'too_busy', detail: 'Ask again' }, { status: 503 }));
  await expect(busy.client.logOut()).rejects.toThrow('Ask again');
  expect(busy.loggedOut).not.toHaveBeenCalled();
  const away = answering(() => Promise.reject(new TypeError('Failed to fetch')));
  await expect(away.client.logOut()).rejects.toThrow('The service does not answer.');
});
