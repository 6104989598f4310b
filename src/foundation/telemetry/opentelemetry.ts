import { context, SpanKind, SpanStatusCode, trace, TraceFlags, type Context, type Tracer } from '@opentelemetry/api'
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AggregationType, MeterProvider, MetricReader, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { AsyncLocalStorage } from 'node:async_hooks'
import { within } from '#foundation/async'
import { createInstruments } from './instruments.ts'
import type { Telemetry } from './telemetry.ts'

/** Time for sending the last measurements to a collector at the end (ms). */
const SHUTDOWN_MS = 3000

/** Bounds of the histograms (seconds), finest at the durations of a cached exchange and of a durable write. */
const DURATION_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
]

/** One value of a gauge. */
export interface GaugeValue {
  readonly value: number
  readonly labels: Readonly<Record<string, string>>
}

export interface OpenTelemetry {
  readonly telemetry: Telemetry
  /** A value that is read when metrics are read. */
  gauge(name: string, description: string, read: () => number): void
  /** Values that are read when metrics are read, one for each set of labels. */
  gauges(name: string, description: string, read: () => readonly GaugeValue[]): void
  /** All metrics in the Prometheus text format. */
  prometheus(): Promise<string>
  /** The span context that a caller sent (W3C Trace Context) becomes the parent of what `work` does. */
  within<T>(traceparent: string | undefined, work: () => T): T
  /** The `traceparent` of the active span, to be sent along to providers. */
  traceparent(): string | undefined
  /** Sends the last measurements, for at most three seconds. */
  shutdown(): Promise<void>
}

/** A reader that collects on request, and neither pushes nor listens. */
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

/** Loaded only where a collector is configured: other daemons do not pay for the exporters. */
const exportersTo = async (otlp: string) => {
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-http')
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http')
  return {
    metrics: new OTLPMetricExporter({ url: `${otlp}/v1/metrics` }),
    traces: new OTLPTraceExporter({ url: `${otlp}/v1/traces` }),
  }
}

/** The providers of metrics and, where a collector is configured, of traces. */
const createProviders = async ({ version, otlp }: { readonly version: string; readonly otlp: string | null }) => {
  const exporters = otlp === null ? undefined : await exportersTo(otlp)
  const resource = resourceFromAttributes({ 'service.name': 'deputy', 'service.version': version })
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
        aggregation: { type: AggregationType.EXPLICIT_BUCKET_HISTOGRAM, options: { boundaries: DURATION_BOUNDS } },
      },
    ],
  })
  const tracers =
    exporters === undefined
      ? undefined
      : new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporters.traces)] })
  return { pulled, meters, tracers }
}

/** The context of a `traceparent` (W3C Trace Context section 3.2); undefined where it is not one. */
const contextOf = (traceparent: string): Context | undefined => {
  const parts = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent)
  if (parts === null) return undefined
  const [, traceId, spanId, flags] = parts as unknown as [string, string, string, string]
  const sampled = (Number.parseInt(flags, 16) & 1) === 1 ? TraceFlags.SAMPLED : TraceFlags.NONE
  return trace.setSpanContext(context.active(), { traceId, spanId, traceFlags: sampled, isRemote: true })
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
  const { pulled, meters, tracers } = await createProviders(options)
  const tracer = tracers?.getTracer('deputy')
  const active = new AsyncLocalStorage<Context>()
  const serializer = new PrometheusSerializer()
  const meter = meters.getMeter('deputy')
  return {
    gauge(name, description, read) {
      meter.createObservableGauge(name, { description }).addCallback((result) => {
        result.observe(read())
      })
    },
    gauges(name, description, read) {
      meter.createObservableGauge(name, { description }).addCallback((result) => {
        for (const { value, labels } of read()) result.observe(value, { ...labels })
      })
    },
    telemetry: {
      ...createInstruments(meter, options.tenantLabel),
      span: tracer === undefined ? (_name, _attributes, work) => work() : traced(tracer, active),
    },
    async prometheus() {
      const { resourceMetrics } = await pulled.collect()
      return serializer.serialize(resourceMetrics)
    },
    within(traceparent, work) {
      const parent = tracer === undefined || traceparent === undefined ? undefined : contextOf(traceparent)
      return parent === undefined ? work() : active.run(parent, work)
    },
    traceparent() {
      const store = active.getStore()
      const current = store === undefined ? undefined : trace.getSpanContext(store)
      return current === undefined ? undefined : `00-${current.traceId}-${current.spanId}-0${current.traceFlags & 1}`
    },
    async shutdown() {
      // The exporters' own deadline is half a minute: a collector that is silent would hold up the end of the process.
      await within(
        SHUTDOWN_MS,
        Promise.allSettled([meters.shutdown(), tracers?.shutdown()]),
        () => new Error('late'),
      ).catch(() => undefined)
    },
  }
}
