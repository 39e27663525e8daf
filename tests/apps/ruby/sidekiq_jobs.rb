# Sidekiq: jobs at once and in bulk, jobs that are due later, a retry, with its fetch and scheduler in this process.
PORT = Integer(ARGV.fetch(0))
ENV["REDIS_URL"] = "redis://127.0.0.1:#{PORT}/0"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/cli"
require "sidekiq/launcher"

class Double
  include Sidekiq::Worker
  def perform(n)
    Sidekiq.redis { |redis| redis.rpush("done", n * 2) }
  end
end

class SecondTime
  include Sidekiq::Worker
  sidekiq_retry_in { 0 }
  def perform
    Sidekiq.redis { |redis| raise "the first time" if redis.incr("tries") == 1 }
    Sidekiq.redis { |redis| redis.rpush("done", "second") }
  end
end

def eventually
  (45 * 20).times do
    value = yield
    return value if value
    sleep 0.05
  end
  abort "it did not happen in time"
end

def done
  Sidekiq.redis { |redis| redis.lrange("done", 0, -1) }.sort
end

Sidekiq.logger.level = Logger::FATAL
Sidekiq.options.merge!(queues: ["default"], concurrency: 2, timeout: 2, poll_interval_average: 0.2, environment: "test")
jobs = [Double.perform_async(1)] + Double.perform_bulk([[2], [3]])
abort "jobs have no names" unless jobs.uniq.size == 3
abort "the queue is not there" unless Sidekiq::Queue.new.size == 3
Double.perform_in(0.5, 50)
Double.perform_in(3600, 60)
SecondTime.perform_async
Sidekiq::ScheduledSet.new.find { |job| job.args == [60] }.delete
abort "a job that was deleted is there" unless Sidekiq::ScheduledSet.new.size == 1
launcher = Sidekiq::Launcher.new(Sidekiq.options)
launcher.run
eventually { done == %w[100 2 4 6 second] }
eventually { Sidekiq::Stats.new.processed >= 6 }
abort "failures are not counted" unless Sidekiq::Stats.new.failed == 1
eventually { Sidekiq::ProcessSet.new.size == 1 }
launcher.stop
