import { describe, expect, it } from 'vitest'
import { Activity } from '../../src/listeners/database-proxy/postgres/activity.ts'
import { message } from '../../src/listeners/database-proxy/postgres/messages.ts'

const text = (value: string): Buffer => Buffer.from(`${value}\0`)
const query = message('Q', text('select 1'))
const extended = [message('P', text('')), message('B', text('')), message('E', text(''))]
const sync = message('S')
const row = message('D', Buffer.from('a value that ends as a message does: Z\0\0\0\x05I', 'latin1'))
const done = message('C', text('SELECT 1'))
const ready = (state = 'I'): Buffer => message('Z', Buffer.from(state))
const copyIn = message('G', Buffer.from([0, 0, 0]))
const copyData = message('d', Buffer.from('1\n'))
const copyDone = message('c')

type Step = readonly ['client' | 'server', readonly Buffer[], boolean]
const cases: readonly (readonly [string, readonly Step[]])[] = [
  ['that do nothing', []],
  ['with a notice of the server', [['server', [message('N', text('S'))], true]]],
  [
    'with two queries sent at once, until both are answered',
    [
      ['client', [query, query], false],
      ['server', [row, done, ready()], false],
      ['server', [row, done, ready()], true],
    ],
  ],
  [
    'with a query that is sent while another is answered',
    [
      ['client', [query], false],
      ['server', [row], false],
      ['client', [query], false],
      ['server', [done, ready()], false],
      ['server', [done, ready()], true],
    ],
  ],
  [
    'with pipelined extended queries',
    [
      ['client', [...extended, sync, ...extended], false],
      ['server', [done, ready()], false],
      ['client', [sync], false],
      ['server', [done, ready()], true],
    ],
  ],
  [
    'inside of a transaction',
    [
      ['client', [query], false],
      ['server', [done, ready('T')], false],
      ['client', [query], false],
      ['server', [done, ready()], true],
    ],
  ],
  [
    'with a COPY',
    [
      ['client', [query], false],
      ['server', [copyIn], false],
      ['client', [copyData, copyDone], false],
      ['server', [done, ready()], true],
    ],
  ],
  [
    'with a COPY of an extended query, whose Sync is ignored',
    [
      ['client', [...extended, sync], false],
      ['server', [copyIn], false],
      ['client', [copyData, sync, copyDone], false],
      ['client', [sync], false],
      ['server', [done, ready()], true],
    ],
  ],
  [
    'with a COPY that fails at the server',
    [
      ['client', [...extended, sync], false],
      ['server', [copyIn, message('E', text('S'))], false],
      ['client', [copyData, copyDone, sync], false],
      ['server', [ready()], true],
    ],
  ],
  ['whose client sends half of a message', [['client', [query.subarray(0, 3)], false]]],
  ['whose client sends no message', [['client', [Buffer.from('Q\xff\xff\xff\xff', 'latin1')], false]]],
]

describe('promise 4: connections', () => {
  it.each(cases)('%s are idle only when the server has nothing to do', (_, steps) => {
    for (const size of [1, 7, 10_000]) {
      const activity = new Activity()
      expect(activity.isIdle).toBe(true)
      for (const [from, messages, isIdle] of steps) {
        const bytes = Buffer.concat(messages)
        for (let at = 0; at < bytes.length; at += size) {
          const chunk = bytes.subarray(at, at + size)
          if (from === 'client') activity.fromClient(chunk)
          else activity.fromServer(chunk)
        }
        expect(activity.isIdle).toBe(isIdle)
      }
    }
  })
})
