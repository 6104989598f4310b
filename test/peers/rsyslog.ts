/** A real rsyslog of our own, in a temporary folder, that writes what it takes to a file as JSON lines. */
import { spawn, type ChildProcess } from 'node:child_process'
import { globSync, existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Issued } from '../support/certificates.ts'
import { freePort, stopProcess } from '../support/process.ts'

const PROGRAM = '/usr/sbin/rsyslogd'
/** Its TLS driver is a package of its own. */
const TLS_DRIVER = '/usr/lib/*/rsyslog/lmnsd_ossl.so'

export const findRsyslog = (): boolean => {
  const found = existsSync(PROGRAM)
  if (!found)
    process.stderr.write(
      '\n*** SKIPPED: the tests that need rsyslog. Install the packages `rsyslog` and `rsyslog-openssl`. ***\n\n',
    )
  return found
}

const lineSchema = z.object({ id: z.string(), host: z.string(), sd: z.string(), msg: z.string() })

export interface Rsyslog {
  readonly process: ChildProcess
  /** Port of the receiver without TLS. */
  readonly tcp: number
  /** Port of the receiver with TLS; undefined where its driver is not installed. */
  readonly tls: number | undefined
  /** Unix socket that takes datagrams, as /dev/log does. */
  readonly datagrams: string
  lines(): Promise<readonly z.output<typeof lineSchema>[]>
  close(): Promise<void>
}

const isListening = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => {
      resolve(false)
    })
  })

/** https://www.rsyslog.com/doc/configuration/modules/imtcp.html, imuxsock.html and https://www.rsyslog.com/doc/configuration/templates.html */
const configuration = (folder: string, ports: { tcp: number; tls: number | undefined }): string =>
  [
    `global(workDirectory="${folder}" maxMessageSize="64k"`,
    ports.tls === undefined
      ? ')'
      : `  DefaultNetstreamDriverCAFile="${folder}/ca.pem" DefaultNetstreamDriverCertFile="${folder}/cert.pem" DefaultNetstreamDriverKeyFile="${folder}/key.pem")`,
    'module(load="imtcp")',
    'module(load="imuxsock" SysSock.Use="off")',
    'template(name="json" type="list" option.jsonf="on") {',
    '  property(outname="id" name="msgid" format="jsonf")',
    '  property(outname="host" name="hostname" format="jsonf")',
    '  property(outname="sd" name="structured-data" format="jsonf")',
    '  property(outname="msg" name="msg" format="jsonf")',
    '}',
    'ruleset(name="keep") {',
    `  action(type="omfile" file="${folder}/log.jsonl" template="json" asyncWriting="off" flushOnTXEnd="on")`,
    '}',
    `input(type="imtcp" address="127.0.0.1" port="${ports.tcp}" ruleset="keep" streamDriver.name="ptcp" streamDriver.mode="0")`,
    ...(ports.tls === undefined
      ? []
      : [
          `input(type="imtcp" address="127.0.0.1" port="${ports.tls}" ruleset="keep" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")`,
        ]),
    `input(type="imuxsock" socket="${folder}/log" useSpecialParser="off" parseHostname="on" rateLimit.interval="0" ruleset="keep")`,
    '',
  ].join('\n')

/** @param certificate of its receiver with TLS, with its authority */
export const startRsyslog = async ({ ca, certificate, key }: Issued & { readonly ca: string }): Promise<Rsyslog> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-rsyslog-'))
  const [tcp, tls] = [await freePort(), globSync(TLS_DRIVER).length === 0 ? undefined : await freePort()]
  await writeFile(join(folder, 'ca.pem'), ca)
  await writeFile(join(folder, 'cert.pem'), certificate)
  await writeFile(join(folder, 'key.pem'), key)
  await writeFile(join(folder, 'rsyslog.conf'), configuration(folder, { tcp, tls }))
  let said = ''
  const child = spawn(PROGRAM, ['-n', '-f', join(folder, 'rsyslog.conf'), '-i', join(folder, 'pid')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
  for (let attempt = 0; !((await isListening(tcp)) && existsSync(join(folder, 'log'))); attempt += 1) {
    if (attempt > 200 || child.exitCode !== null) throw new Error(`rsyslog does not listen: ${said}`)
    await sleep(50)
  }
  return {
    process: child,
    tcp,
    tls,
    datagrams: join(folder, 'log'),
    async lines() {
      const text = await readFile(join(folder, 'log.jsonl'), 'utf8').catch(() => '')
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => lineSchema.parse(JSON.parse(line)))
    },
    async close() {
      await stopProcess(child, 'SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
  }
}
