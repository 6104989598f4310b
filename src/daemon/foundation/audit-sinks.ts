/** The sinks of the audit log that the settings name, with their certificates, tokens and positions. */
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { AuditSinkSettings, HttpSinkSettings, SegmentSinkSettings, Settings, SyslogSinkSettings } from '#config'
import { loadBucket, readLocalSecret } from '#credentials/secret'
import {
  type AuditSink,
  createDocuments,
  createFileSink,
  createHttpDelivery,
  createOtlpDelivery,
  createSegmentFolder,
  createSplunkDelivery,
  createSyslogStream,
  createUnixDatagrams,
  type Delivery,
  Follower,
  type HttpReceiver,
  LONGEST_ASKED_MS,
  newlineEnded,
  octetCounted,
  Pacing,
  PositionedSink,
  SegmentDelivery,
  SinkPosition,
  type SyslogPlace,
  toSyslog,
} from '#foundation/audit'
import { refuse } from '#errors'
import { OWN_TENANT, Secret } from '#foundation/crypto'
import type { TlsMaterial } from '#foundation/files'
import { createConnectionGuard, createEgress, type Egress, NAMED_BY_SETTINGS } from '#foundation/outbound'
import type { SigningKeys } from '#foundation/keys'
import type { Store } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { ReadTls, Surroundings } from './foundation.ts'

/** Time limit for a batch of a sink that no caller waits for (ms). */
const BACKGROUND_DEADLINE_MS = 10_000

/** The first and the longest wait after a failure (ms): callers wait for a required sink, and for no other. */
const REQUIRED_WAITS = { first: 250, longest: 1000, longestAsked: LONGEST_ASKED_MS }
const BACKGROUND_WAITS = { first: 1000, longest: 60_000, longestAsked: LONGEST_ASKED_MS }

/** Most records and bytes that are appended to a file at once. */
const FILE_BATCH = { records: 512, bytes: 4_194_304 }

export interface AuditSinkSurroundings extends Surroundings {
  readonly version: string
  readonly logger: Logger
  readonly telemetry: Telemetry
  readonly readTls: ReadTls
  readonly store: Pick<Store, 'audit' | 'auditPositions'>
  /** Proves that this installation wrote a text. */
  readonly prove: (text: string) => string
  /** Names the installation in its chains. */
  readonly installation: string
  readonly signingKeys: SigningKeys
}

/** What settings say of certificates, read again while the daemon runs. */
const tlsOf = async (
  tls: HttpSinkSettings['tls'] | SyslogSinkSettings['tls'],
  { readTls }: AuditSinkSurroundings,
): Promise<TlsMaterial> => (typeof tls === 'object' ? readTls(tls) : {})

/** A way out with the certificates as they are now. */
const egressWith = (tls: TlsMaterial, timeout: number): { egress: Egress; close: () => Promise<void> } => {
  const create = (ca: string | undefined) => ({
    ca,
    egress: createEgress({ ...NAMED_BY_SETTINGS, timeout, ...(ca === undefined ? {} : { ca }) }),
  })
  let current = create(tls.ca)
  return {
    egress(url, init) {
      if (current.ca !== tls.ca) {
        void current.egress.close()
        current = create(tls.ca)
      }
      const { cert, key } = tls
      const certificate =
        cert === undefined || key === undefined ? {} : { certificate: { certificate: cert, key: new Secret(key) } }
      return current.egress(url, { ...init, ...certificate })
    },
    close: () => current.egress.close(),
  }
}

type Common = Pick<Delivery, 'name' | 'limits'>

const commonOf = ({
  kind,
  name,
  batch_records: records,
  batch_bytes: bytes,
}: HttpSinkSettings | SyslogSinkSettings): Common => ({
  name: `${kind} ${name}`,
  limits: { records, bytes },
})

const originOf = ({ environment }: Settings, { store }: AuditSinkSurroundings) => ({
  node: store.audit.node,
  environment,
})

const createHttp = async (
  sink: HttpSinkSettings,
  settings: Settings,
  around: AuditSinkSurroundings,
  timeout: number,
): Promise<Delivery> => {
  const { token, token_header: header, headers, url, fields } = sink
  const { egress, close } = egressWith(await tlsOf(sink.tls, around), timeout)
  const isSplunk = sink.kind === 'http' && sink.format === 'splunk_hec'
  const scheme = sink.token_scheme === undefined ? (isSplunk ? 'Splunk' : 'Bearer') : sink.token_scheme
  const receiver: HttpReceiver = {
    url,
    egress,
    headers,
    timeout,
    clock: around.clock,
    authorization:
      token === undefined
        ? undefined
        : {
            header,
            async read() {
              const secret = await readLocalSecret(token, around, OWN_TENANT)
              return scheme === null ? secret : new Secret(`${scheme} ${secret.reveal()}`)
            },
          },
  }
  // Without its token a required sink confirms nothing: that is told at the start, as of a password of the store.
  if (sink.required) await receiver.authorization?.read()
  const origin = originOf(settings, around)
  const document = createDocuments(fields, origin)
  const common = commonOf(sink)
  const delivery = ((): Delivery => {
    if (sink.kind === 'otlp') return createOtlpDelivery(common, receiver, { origin, version: around.version, document })
    if (sink.format === 'splunk_hec') {
      const { index, sourcetype } = sink
      return createSplunkDelivery(common, receiver, { index, sourcetype, node: origin.node, document })
    }
    return createHttpDelivery(common, receiver, sink.format, document)
  })()
  return { ...delivery, close }
}

const placeOf = async (sink: SyslogSinkSettings, around: AuditSinkSurroundings): Promise<SyslogPlace> => {
  const { address, socket, tls } = sink
  if (address === undefined) return { socket: resolve(around.home, socket!) }
  const material = await tlsOf(tls, around)
  const guard = createConnectionGuard(NAMED_BY_SETTINGS)
  const { host, port } = address
  return {
    host,
    port,
    lookup: guard.lookup,
    assertReachable: () => {
      guard.assertReachable(new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}/`))
    },
    tls: tls === false ? undefined : () => ({ ca: material.ca, cert: material.cert, key: material.key }),
  }
}

const createSyslog = async (
  sink: SyslogSinkSettings,
  settings: Settings,
  around: AuditSinkSurroundings,
): Promise<Delivery> => {
  const { facility, enterprise, fields, framing, datagram, socket } = sink
  const origin = originOf(settings, around)
  const options = {
    facility,
    enterprise,
    host: hostname(),
    node: origin.node,
    document: createDocuments(fields, origin),
  }
  const message = (row: Parameters<typeof toSyslog>[0]): string => toSyslog(row, options)
  if (datagram) return createUnixDatagrams(commonOf(sink), resolve(around.home, socket!), message)
  const frame = framing === 'newline' ? newlineEnded : octetCounted
  return createSyslogStream(commonOf(sink), await placeOf(sink, around), message, frame)
}

const createFile = (path: string, name: string): Delivery => {
  const sink = createFileSink(path)
  return {
    name: `file ${name}`,
    limits: FILE_BATCH,
    async send(rows) {
      await sink.write(rows)
      return { rejected: 0 }
    },
    head: () => sink.head!(),
    close: () => sink.close(),
  }
}

const createSegments = async (
  { name, folder, s3, batch_records: records, batch_bytes: bytes, seal_after: sealAfter }: SegmentSinkSettings,
  { home, store, installation, signingKeys, clock }: AuditSinkSurroundings,
  timeout: number,
): Promise<Delivery> =>
  new SegmentDelivery({
    name: `segments ${name}`,
    limits: { records, bytes },
    sealAfter,
    archive:
      s3 === undefined
        ? createSegmentFolder(resolve(home, folder!))
        : (await loadBucket()).openBucket({ ...s3, timeout, now: () => clock.now() }),
    chain: { installation, node: store.audit.node },
    store: store.audit,
    sign: (signed) => signingKeys.sign('checkpoint', signed),
    verifySignature: (kid, signed, signature) => signingKeys.verify('checkpoint', kid, signed, signature),
    clock,
  })

const createDelivery = (
  sink: AuditSinkSettings,
  settings: Settings,
  around: AuditSinkSurroundings,
  deadline: number,
): Promise<Delivery> => {
  if (sink.kind === 'file') return Promise.resolve(createFile(resolve(around.home, sink.path), sink.name))
  if (sink.kind === 'segments') return createSegments(sink, around, deadline)
  return sink.kind === 'syslog' ? createSyslog(sink, settings, around) : createHttp(sink, settings, around, deadline)
}

/** A sink that begins now has its position before the first record of this daemon, which is the first that it gets. */
const beginNow = async ({ name, backfill, required }: AuditSinkSettings, position: SinkPosition): Promise<void> => {
  if (backfill !== 'now') return
  try {
    await position.begin()
  } catch (error) {
    // One that no caller waits for says so in the status, and tries again.
    if (!required) return
    const problem = `the audit sink ${name}: ${error instanceof Error ? error.message : String(error)}`
    throw refuse('start_failed', { problem, fix: 'Correct audit.sinks in deputy.yaml.' }, error)
  }
}

/** Those that callers wait for, and those that follow. */
export interface AuditSinks {
  readonly required: readonly AuditSink[]
  readonly followers: readonly Follower[]
}

/** @throws DeputyError `config_invalid`, `secret_missing`: a file or variable of a sink cannot be read */
export const openAuditSinks = async (settings: Settings, around: AuditSinkSurroundings): Promise<AuditSinks> => {
  const { store, prove, logger, telemetry, clock, random } = around
  const required: AuditSink[] = settings.audit.files.map(({ path }) => createFileSink(resolve(around.home, path)))
  const followers: Follower[] = []
  // Waits of nodes differ; nothing depends on the number.
  const share = (): number => (random.bytes(1)[0] ?? 0) / 255
  for (const sink of settings.audit.sinks) {
    const deadline = sink.deadline ?? (sink.required ? settings.audit.deadline : BACKGROUND_DEADLINE_MS)
    const delivery = await createDelivery(sink, settings, around, deadline)
    const position = new SinkPosition({
      sink: sink.name,
      store: store.audit,
      positions: store.auditPositions,
      prove,
      backfill: sink.backfill,
      own: delivery.head,
      mark: delivery.mark,
      logger,
    })
    await beginNow(sink, position)
    const pacing = new Pacing({
      ...(sink.required ? REQUIRED_WAITS : BACKGROUND_WAITS),
      monotonic: () => performance.now(),
      random: share,
    })
    const common = { delivery, position, pacing, deadline, logger }
    if (sink.required) required.push(new PositionedSink(common))
    else followers.push(new Follower({ ...common, store: store.audit, alertAfter: sink.alert_after, clock, telemetry }))
  }
  return { required, followers }
}
