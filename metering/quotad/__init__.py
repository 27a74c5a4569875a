"""`metering quotad`: the quota client as an HTTP service, for applications that do not read Kafka."""
