import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ends, urlParts } from '../src/lib/names';
import { statusOf } from '../src/lib/status';
import { MARGIN, revealing, sliceOf } from '../src/lib/virtual';

describe('a slice', () => {
  it('holds every line in sight, and not many more', () => {
    fc.assert(
      fc.property(fc.nat(5_000), fc.nat(200_000), fc.nat(2_000), (count, top, seen) => {
        const { start, end } = sliceOf(count, 28, top, seen);
        expect(start >= 0 && end <= count && start <= end).toBe(true);
        for (let line = 0; line < count; line++)
          if (line * 28 < top + seen && (line + 1) * 28 > top) expect(line >= start && line < end).toBe(true);
        expect(end - start).toBeLessThanOrEqual(seen / 28 + 2 + 2 * MARGIN);
      }),
    );
  });

  it('follows a line by as little as possible', () => {
    expect(revealing(0, 28, 100, 280)).toBe(0);
    expect(revealing(5, 28, 100, 280)).toBe(100);
    expect(revealing(20, 28, 100, 280)).toBe(21 * 28 - 280);
  });
});

describe('a status', () => {
  it('has a sign and a word of its own', () => {
    const all = ['running', 'finished', 'failed', 'lost'].map((status) => statusOf(status));
    const stalled = statusOf('running', true);
    for (const field of ['word', 'path', 'told'] as const)
      expect(new Set([...all, stalled].map((status) => status[field])).size).toBe(5);
    expect(stalled.word).toBe('stalled');
    expect(statusOf('finished', true).word).toBe('finished');
  });

  it('of a newer service is its word', () => {
    expect(statusOf('queued')).toMatchObject({ word: 'queued', tone: 'quiet' });
    expect(statusOf('constructor').word).toBe('constructor');
    expect(statusOf(null).word).toBe('–');
  });
});

describe('names', () => {
  it('are cut in the middle, and never inside a character', () => {
    expect(ends('vision/resnet34-s0-r1')).toEqual(['vision/resn', 'et34-s0-r1']);
    expect(ends('short')).toEqual(['short', '']);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        expect(ends(name).join('')).toBe(name);
      }),
    );
    expect(ends('👩‍👩‍👧'.repeat(20))[1]).toBe('👩‍👩‍👧'.repeat(10));
  });

  it('fit into URLs, in parts that lose none', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 40 })), (names) => {
        const parts = urlParts(names, 200, 5);
        expect(parts.flat()).toEqual(names);
        for (const part of parts) {
          expect(part.length).toBeLessThanOrEqual(5);
          const chars = part.reduce((sum, name) => sum + encodeURIComponent(name).length + 5, 0);
          if (part.length > 1) expect(chars).toBeLessThanOrEqual(200);
        }
      }),
    );
  });
});
