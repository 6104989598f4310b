import { writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import * as fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createConnectionGuard } from '../../../src/foundation/outbound/guard.ts'
import { newlineEnded, octetCounted, toSyslog } from '../../../src/foundation/audit/sinks/syslog-message.ts'
import { createSyslogStream, type SyslogPlace } from '../../../src/foundation/audit/sinks/syslog-stream.ts'
import { createUnixDatagrams } from '../../../src/foundation/audit/sinks/unix-datagram.ts'
import type { AuditRow } from '../../../src/foundation/store/records/audit.ts'
import { findRsyslog, startRsyslog } from '../../peers/rsyslog.ts'
import { aFolder } from '../../support/audit.ts'
import { aTcpServer, aChain, ecs, forever, listening } from '../../support/audit-sinks.ts'
import { aCertificateAuthority } from '../../support/certificates.ts'

const options = { facility: 'audit', host: 'host.example', node: 'n1', enterprise: 32_473, document: ecs } as const
const message = (row: AuditRow): string => toSyslog(row, options)
const guard = createConnectionGuard({ allowLoopback: true, allowPrivate: [] })
const of = { name: 'syslog siem', limits: { records: 100, bytes: 1_000_000 } }

const at = (port: number, tls?: { ca: string; cert?: string; key?: string }): SyslogPlace => ({
  host: 'localhost',
  port,
  lookup: guard.lookup,
  assertReachable: () => undefined,
  tls: tls === undefined ? undefined : () => tls,
})
const aStream = (place: SyslogPlace) => createSyslogStream(of, place, message, octetCounted)

/** Takes apart what octet counting put together. */
const messagesIn = (text: string): string[] => {
  const found: string[] = []
  for (let bytes = Buffer.from(text); bytes.length > 0;) {
    const space = bytes.indexOf(' ')
    const length = Number(bytes.subarray(0, space).toString())
    found.push(bytes.subarray(space + 1, space + 1 + length).toString())
    bytes = bytes.subarray(space + 1 + length)
  }
  return found
}

/** Reads all, then ends the connection, as receivers do. @param got the text of each connection */
const reading = (got: string[]) => (socket: Socket) => {
  let text = ''
  socket.on('data', (chunk) => (text += chunk.toString()))
  socket.on('end', () => {
    got.push(text)
    socket.end()
  })
}

/** RFC 5424 section 6, as far as these messages use it. */
const MESSAGE =
  /^<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) \[deputy@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+)\] (.*)$/su

const parts = (text: string) => {
  const [, pri, time, host, app, proc, id, data, json] = MESSAGE.exec(text)!
  const values = [...data!.matchAll(/ ([a-z]+)="((?:[^"\\\]]|\\["\\\]])*)"/gu)].map(
    ([, name, value]) => [name!, value!.replace(/\\(["\\\]])/g, '$1')] as const,
  )
  return { pri, time, host, app, proc, id, data: Object.fromEntries(values), json: JSON.parse(json!) as object }
}

describe('a message of syslog', () => {
  it('follows RFC 5424 and holds the record, with its text as it was hashed', () => {
    const [issued, refused] = aChain(2, (seq) => ({ user: 'alice', outcome: seq === 1 ? 'issued' : 'refused' })) as [
      AuditRow,
      AuditRow,
    ]
    expect(parts(message(issued))).toEqual({
      pri: String(13 * 8 + 6),
      time: new Date(issued.at).toISOString(),
      host: 'host.example',
      app: 'deputy',
      proc: '-',
      id: 'token.exchange',
      data: { node: 'n1', seq: '1', hash: issued.hash, id: 'r1', outcome: 'issued', tenant: 'acme', user: 'alice' },
      json: JSON.parse(JSON.stringify(ecs(issued))) as object,
    })
    expect(parts(message(refused)).pri).toBe(String(13 * 8 + 4))
    expect(newlineEnded('a')).toBe('a\n')
    expect(octetCounted('äb')).toBe('3 äb')
  })

  it('cannot be broken by what a caller writes into a record', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 30 }),
        fc.constantFrom('"]', '\\"] ', '\n<13>1 ', '\u2028', '\u0000]', ''),
        (text, end) => {
          const [row] = aChain(1, () => ({ user: `${text}${end}`, id: `${end}${text}`, detail: { text, end } })) as [
            AuditRow,
          ]
          const written = message(row)
          // oxlint-disable-next-line no-control-regex
          expect(written).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/)
          const { data, json } = parts(written)
          expect(Object.keys(data)).toEqual(['node', 'seq', 'hash', 'id', 'outcome', 'tenant', 'user'])
          expect(json).toMatchObject({ event: { original: row.body, hash: row.hash }, user: { id: row.user } })
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('syslog over a stream', () => {
  const rows = aChain(50)

  it('sends a batch over TCP, a Unix socket, and TLS with certificates on both sides', async () => {
    const path = join(await aFolder(), 'log')
    const authority = await aCertificateAuthority()
    const [server, client] = [
      await authority.issue('localhost', { host: 'localhost' }),
      await authority.issue('deputy', { client: true }),
    ]
    const got: string[] = []
    const tcp = await aTcpServer(reading(got))
    await aTcpServer(reading(got), path)
    const tls = createTlsServer(
      { cert: server.certificate, key: server.key, ca: authority.certificate, requestCert: true, allowHalfOpen: true },
      reading(got),
    )
    tls.on('tlsClientError', () => undefined)
    const { port } = await listening(tls)
    const ca = authority.certificate
    const places = [at(tcp.port), { socket: path }, at(port, { ca, cert: client.certificate, key: client.key })]
    for (const place of places) {
      await aStream(place).send(rows, forever)
      expect(messagesIn(got.pop()!)).toEqual(rows.map(message))
    }
    await expect(aStream(at(port, { ca })).send(rows, forever)).rejects.toThrow()
    const other = (await aCertificateAuthority()).certificate
    await expect(aStream(at(port, { ca: other })).send(rows, forever)).rejects.toThrow(/certificate/)
    expect(got).toEqual([])
  })

  it('threat 29: takes nothing for a confirmation but the end of a receiver that has read everything', async () => {
    const served: Readonly<Record<string, { serve: (socket: Socket) => void; problem: RegExp }>> = {
      'closes at once': {
        serve: (socket) => socket.destroy(),
        problem: /closed the connection|reset|EPIPE|ECONNRESET/,
      },
      'resets after the first bytes': {
        serve: (socket) => socket.once('data', () => socket.resetAndDestroy()),
        problem: /closed the connection|ECONNRESET|EPIPE/,
      },
      'closes after the first bytes': {
        serve: (socket) => socket.once('data', () => socket.destroy()),
        problem: /closed the connection|ECONNRESET|EPIPE/,
      },
      'is silent': { serve: (socket) => socket.pause(), problem: /did not (end the connection|take the batch)/ },
      'reads and never ends': { serve: (socket) => socket.resume(), problem: /did not end the connection/ },
      'talks for ever': {
        serve: (socket) => {
          socket.resume()
          const talk = (): void => {
            while (!socket.destroyed && socket.write('x'.repeat(65_536))) continue
          }
          socket.on('drain', talk)
          talk()
        },
        problem: /did not end the connection/,
      },
    }
    for (const [name, { serve, problem }] of Object.entries(served)) {
      const { port } = await aTcpServer(serve)
      const sending = aStream(at(port)).send(aChain(100), AbortSignal.timeout(400))
      await expect(sending, name).rejects.toThrow(problem)
    }
    const { port, close } = await aTcpServer(() => undefined)
    close()
    await expect(aStream(at(port)).send(rows, forever)).rejects.toThrow(/ECONNREFUSED/)
  })
})

describe('syslog in datagrams to a Unix socket', () => {
  it('names a socket that is not there, and one whose path is too long', async () => {
    const folder = await aFolder()
    await writeFile(join(folder, 'file'), '')
    for (const [path, problem] of [
      [join(folder, 'none'), /there is no such socket/],
      [join(folder, 'file'), /no program listens/],
      [join(folder, 'x'.repeat(120)), /longer than the path/],
    ] as const)
      await expect(createUnixDatagrams(of, path, message).send(aChain(1), forever)).rejects.toThrow(problem)
  })
})

describe.skipIf(!findRsyslog())('a real rsyslog', () => {
  it('gets every record over TCP, TLS and /dev/log, with its fields and its text', async () => {
    const authority = await aCertificateAuthority()
    const issued = await authority.issue('localhost', { host: 'localhost' })
    const rsyslog = await startRsyslog({ ca: authority.certificate, ...issued })
    onTestFinished(() => rsyslog.close())
    const rows = aChain(300, (seq) => ({ user: `u"]\\ä${seq}`, detail: { text: 'Grüße\n' } }))
    const deliveries = [
      aStream(at(rsyslog.tcp)),
      ...(rsyslog.tls === undefined ? [] : [aStream(at(rsyslog.tls, { ca: authority.certificate }))]),
      createUnixDatagrams(of, rsyslog.datagrams, message),
    ]
    for (const [index, delivery] of deliveries.entries()) {
      for (let from = 0; from < rows.length; from += 100) await delivery.send(rows.slice(from, from + 100), forever)
      await expect.poll(async () => (await rsyslog.lines()).length).toBe((index + 1) * rows.length)
      const lines = (await rsyslog.lines()).slice(index * rows.length)
      for (const [place, { sd, msg, id }] of lines.entries()) {
        const row = rows[place]!
        expect(id).toBe('token.exchange')
        expect(sd).toContain(`hash="${row.hash}"`)
        expect(JSON.parse(msg)).toMatchObject({
          event: { original: row.body, sequence: row.seq },
          user: { id: row.user },
        })
      }
    }
    // A receiver that stands still fills its queue: that confirms nothing, and holds up no other work.
    rsyslog.process.kill('SIGSTOP')
    const many = Array.from({ length: 20 }, () => rows).flat()
    const stuck = createUnixDatagrams(of, rsyslog.datagrams, message).send(many, AbortSignal.timeout(300))
    await expect(stuck).rejects.toThrow(/the queue of .* is full/)
    rsyslog.process.kill('SIGCONT')
    expect(rsyslog.process.exitCode).toBeNull()
  })
})
