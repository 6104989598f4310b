import {
  context,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Attributes,
  type Context,
  type Meter,
  type Tracer,
} from '@opentelemetry/api'
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AggregationType, MeterProvider, MetricReader, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { AsyncLocalStorage } from 'node:async_hooks'
import { taxonomy } from '#errors'
import { within } from '#foundation/async'
import type { Telemetry } from './telemetry.ts'

/** What is left is sent to a collector within (ms). */
const FAREWELL_MS = 3000

/** Seconds. Finest where a cached exchange and a durable write happen: 100 microseconds show. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

type Labels = Readonly<Record<string, string | undefined>>

const defined = (labels: Labels): Attributes => {
  const attributes: Attributes = {}
  for (const name in labels) if (labels[name] !== undefined) attributes[name] = labels[name]
  return attributes
}

/**
 * A counter that counts by itself and is asked for its totals: the SDK's own works out a hash of the labels each time,
 * and a token request counts several things. Callers give a counter's labels in the same order each time.
 */
const createTally = (meter: Meter, name: string, description: string) => {
  const totals = new Map<string, { readonly attributes: Attributes; total: number }>()
  meter.createObservableCounter(name, { description }).addCallback((result) => {
    for (const { attributes, total } of totals.values()) result.observe(total, attributes)
  })
  return {
    add(count: number, labels: Labels): void {
      let key = ''
      for (const label in labels) key += `${labels[label] ?? ''}\n`
      const known = totals.get(key)
      if (known === undefined) totals.set(key, { attributes: defined(labels), total: count })
      else known.total += count
    },
  }
}

export interface OpenTelemetry {
  readonly telemetry: Telemetry
  /** A value that is read whenever metrics are. */
  gauge(name: string, description: string, read: () => number): void
  /** All metrics in the Prometheus text format. */
  prometheus(): Promise<string>
  /** The span context that a caller sent (W3C Trace Context) becomes the parent of what `work` does. */
  within<T>(traceparent: string | undefined, work: () => T): T
  /** The `traceparent` of the active span, to be sent along to providers. */
  traceparent(): string | undefined
  /** Sends what is left, for at most three seconds. */
  shutdown(): Promise<void>
}

/** A reader that is asked, instead of one that pushes or listens by itself. */
class PulledReader extends MetricReader {
  protected override onForceFlush(): Promise<void> {
    return Promise.resolve()
  }
  protected override onShutdown(): Promise<void> {
    return Promise.resolve()
  }
}

/** Runs work as a span below the active one; what is thrown is put on the span. */
const traced =
  (tracer: Tracer, active: AsyncLocalStorage<Context>): Telemetry['span'] =>
  async (name, attributes, work) => {
    const parent = active.getStore() ?? context.active()
    const span = tracer.startSpan(
      name,
      { attributes, kind: name.startsWith('POST') || name.startsWith('GET') ? SpanKind.SERVER : SpanKind.INTERNAL },
      parent,
    )
    try {
      return await active.run(trace.setSpan(parent, span), work)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'error'
      span.setAttribute('error.type', code)
      span.setStatus({ code: SpanStatusCode.ERROR, message: code })
      throw error
    } finally {
      span.end()
    }
  }

/** Loaded where a collector is configured: no other daemon should pay for them. */
const exportersTo = async (otlp: string) => {
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-http')
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http')
  return {
    metrics: new OTLPMetricExporter({ url: `${otlp}/v1/metrics` }),
    traces: new OTLPTraceExporter({ url: `${otlp}/v1/traces` }),
  }
}

/**
 * Metrics and traces by OpenTelemetry. Nothing global is registered: the composition root holds what this returns.
 * @param options.otlp base URL of an OTLP/HTTP collector; without it spans are not made at all
 */
export const createOpenTelemetry = async (options: {
  version: string
  otlp: string | null
  tenantLabel: boolean
}): Promise<OpenTelemetry> => {
  const exporters = options.otlp === null ? undefined : await exportersTo(options.otlp)
  const resource = resourceFromAttributes({ 'service.name': 'deputy', 'service.version': options.version })
  const pulled = new PulledReader()
  const meters = new MeterProvider({
    resource,
    readers: [
      pulled,
      ...(exporters === undefined ? [] : [new PeriodicExportingMetricReader({ exporter: exporters.metrics })]),
    ],
    views: [
      {
        instrumentName: '*.duration',
        aggregation: { type: AggregationType.EXPLICIT_BUCKET_HISTOGRAM, options: { boundaries: SECONDS } },
      },
    ],
  })
  const tracers =
    exporters === undefined
      ? undefined
      : new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporters.traces)] })
  const tracer = tracers?.getTracer('deputy')
  const active = new AsyncLocalStorage<Context>()
  const serializer = new PrometheusSerializer()

  const meter = meters.getMeter('deputy')
  const counter = (name: string, description: string) => createTally(meter, name, description)
  const duration = (name: string, description: string) => meter.createHistogram(name, { description, unit: 's' })
  const exchanges = duration('deputy.exchange.duration', 'Token requests, by outcome and error')
  const attestations = counter(
    'deputy.attestations',
    'Callers that proved, or did not prove, to be a registered server',
  )
  const subjects = counter('deputy.subjects', 'Subject tokens and sessions that were verified or refused')
  const decisions = counter('deputy.policy.decisions', 'Policy decisions')
  const refreshes = counter('deputy.refreshes', 'Refreshes of grants, by outcome')
  const lookups = counter('deputy.cache.lookups', 'Credential cache lookups')
  const providers = duration('deputy.provider.request.duration', 'Requests to identity providers and OAuth services')
  const commits = duration('deputy.audit.commit.duration', 'Audit commits, by sink')
  const auditRecords = counter('deputy.audit.records', 'Audit records, by sink and outcome')
  const revocations = counter('deputy.revocations', 'Revocations, by what they cover')
  const upstreamRevocations = counter(
    'deputy.upstream_revocations',
    'Attempts to end grants at their providers, by provider and outcome; alert on irrevocable',
  )

  const telemetry: Telemetry = {
    exchange: ({ outcome, error, credential, tenant, seconds }) => {
      exchanges.record(
        seconds,
        defined({
          outcome,
          credential,
          'error.type': error,
          'deputy.error.category': error === undefined ? undefined : taxonomy[error].category,
          'deputy.tenant': options.tenantLabel ? tenant : undefined,
        }),
      )
    },
    attestation: ({ method, outcome, error }) => {
      attestations.add(1, { method, outcome, 'error.type': error })
    },
    subject: ({ how, outcome, error }) => {
      subjects.add(1, { how, outcome, 'error.type': error })
    },
    decision: ({ allowed, credential }) => {
      decisions.add(1, { decision: allowed ? 'allow' : 'deny', credential })
    },
    refresh: ({ provider, outcome }) => {
      refreshes.add(1, { provider, outcome })
    },
    cache: ({ outcome }) => {
      lookups.add(1, { outcome })
    },
    provider: ({ provider, operation, outcome, seconds }) => {
      providers.record(seconds, { provider, operation, outcome })
    },
    audit: ({ sink, outcome, records, seconds }) => {
      commits.record(seconds, { sink, outcome })
      auditRecords.add(records, { sink, outcome })
    },
    revocation: ({ scope }) => {
      revocations.add(1, { scope })
    },
    upstreamRevocation: ({ provider, outcome }) => {
      upstreamRevocations.add(1, { provider, outcome })
    },
    span: tracer === undefined ? (_name, _attributes, work) => work() : traced(tracer, active),
  }

  return {
    gauge(name, description, read) {
      meter.createObservableGauge(name, { description }).addCallback((result) => {
        result.observe(read())
      })
    },
    telemetry,
    async prometheus() {
      const { resourceMetrics } = await pulled.collect()
      return serializer.serialize(resourceMetrics)
    },
    within(traceparent, work) {
      const parts =
        tracer === undefined || traceparent === undefined
          ? undefined
          : /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent)
      if (parts === undefined || parts === null) return work()
      const [, traceId, spanId, flags] = parts as unknown as [string, string, string, string]
      const sampled = (Number.parseInt(flags, 16) & 1) === 1 ? TraceFlags.SAMPLED : TraceFlags.NONE
      return active.run(
        trace.setSpanContext(context.active(), { traceId, spanId, traceFlags: sampled, isRemote: true }),
        work,
      )
    },
    traceparent() {
      const store = active.getStore()
      const current = store === undefined ? undefined : trace.getSpanContext(store)
      return current === undefined ? undefined : `00-${current.traceId}-${current.spanId}-0${current.traceFlags & 1}`
    },
    async shutdown() {
      // The exporters' own deadline is half a minute: a collector that is silent would hold up the end of the process.
      await within(
        FAREWELL_MS,
        Promise.allSettled([meters.shutdown(), tracers?.shutdown()]),
        () => new Error('late'),
      ).catch(() => undefined)
    },
  }
}
