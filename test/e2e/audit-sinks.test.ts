import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { anHttpServer, aTcpServer } from '../support/audit-sinks.ts'
import { ask, startDaemonHere } from '../support/daemon.ts'
import { freePort } from '../support/process.ts'

interface Document {
  readonly event: {
    readonly sequence: number
    readonly hash: string
    readonly original: string
    readonly action: string
  }
}

describe('the sinks of a daemon', () => {
  it('threat 29: one that is away holds up nothing and is reported; it gets everything in order, over a restart as well', async () => {
    const documents: Document[] = []
    let isUp = false
    const tokens = new Set<string | undefined>()
    const url = await anHttpServer((body, response: ServerResponse, { headers }) => {
      tokens.add(headers.authorization)
      if (!isUp) return response.writeHead(503, { 'retry-after': '0' }).end()
      documents.push(...(JSON.parse(body) as Document[]))
      return response.end()
    })
    let syslog = ''
    const { port } = await aTcpServer((socket) => {
      socket.on('data', (chunk) => (syslog += chunk.toString()))
      socket.on('end', () => socket.end())
    })
    const metrics = await freePort()
    const daemon = await startDaemonHere(
      { 'secrets/siem': 'the-token\n' },
      {
        listen: { metrics: `127.0.0.1:${metrics}` },
        audit: {
          sinks: [
            { name: 'siem', kind: 'http', required: false, url, token: { file: 'secrets/siem' }, alert_after: '1ms' },
            {
              name: 'archive',
              kind: 'segments',
              required: false,
              folder: 'state/archive',
              seal_after: '1s',
              alert_after: '1h',
            },
            { name: 'trail', kind: 'file', required: true, path: 'state/trail.jsonl' },
            {
              name: 'log',
              kind: 'syslog',
              required: true,
              backfill: 'now',
              address: `127.0.0.1:${port}`,
              tls: false,
            },
          ],
        },
      },
    )
    onTestFinished(() => daemon.close())
    const status = async () => {
      const { code, out } = await daemon.deputy('status', '--json')
      return {
        code,
        ...(JSON.parse(out) as { ready: boolean; checks: Record<string, string>; audit_sinks: unknown }),
      }
    }
    // Older than a second, so that its age shows.
    await expect.poll(status).toMatchObject({
      code: 1,
      ready: true,
      checks: { audit: 'ok', audit_sinks: /http siem: .*status 503.*behind/ },
    })
    const scraped = (await ask({ port: metrics }, { path: '/metrics' })).text
    expect(scraped).toMatch(/deputy_audit_sink_lag_records\{sink="http siem"[^}]*\} [1-9]/)
    expect(scraped).toMatch(/deputy_audit_sink_lag_seconds\{sink="http siem"[^}]*\} [0-9.]*[1-9]/)
    const rules = await readFile(join(import.meta.dirname, '../../deploy/prometheus/deputy.rules.yaml'), 'utf8')
    for (const [metric] of rules.matchAll(/deputy_[a-z_]+/g)) expect(scraped).toContain(`# TYPE ${metric} `)
    expect((await daemon.deputy('reload')).code).toBe(0)
    isUp = true
    await expect.poll(status).toMatchObject({
      code: 0,
      checks: { audit_sinks: 'ok' },
      audit_sinks: [{ lag: { records: 0 } }, { name: 'segments archive', ok: true }],
    })
    await daemon.stop()
    await daemon.start()
    await daemon.stop()
    const trail = (await readFile(join(daemon.home, 'state/trail.jsonl'), 'utf8')).trimEnd().split('\n')
    // Each of them got every record once, the stop of the daemon among them.
    expect(documents.map(({ event }) => event.sequence)).toEqual(trail.map((_, index) => index + 1))
    expect(documents.at(-1)!.event.action).toBe('daemon.stop')
    for (const [index, { event }] of documents.entries()) {
      expect(trail[index]).toBe(`{"hash":"${event.hash}","record":${event.original}}`)
      expect(createHash('sha256').update(event.original).digest('hex')).toBe(event.hash)
      expect(syslog).toContain(`seq="${event.sequence}" hash="${event.hash}"`)
    }
    const folder = join(daemon.home, 'state/archive/local')
    const archived = await Promise.all(
      (await readdir(folder)).toSorted().map(async (name) => await readFile(join(folder, name), 'utf8')),
    )
    const lines = archived.flatMap((text) => text.trimEnd().split('\n'))
    expect(lines.filter((line) => line.startsWith('{"hash":'))).toEqual(trail)
    expect([...tokens]).toEqual(['Bearer the-token'])
    expect(daemon.output()).not.toContain('the-token')
  })
})
