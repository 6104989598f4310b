#!/usr/bin/env node
/** The first file that runs. The rest is loaded after it, so that V8 keeps what it compiles. */
import { useCompileCache } from './compile-cache.ts'

useCompileCache(process.env)
await import('./run.ts')
