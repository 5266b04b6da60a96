// Package verify holds the Kubernetes objects of deploy/ to what Kubernetes
// takes and to what the program needs: every object that the overlays, the
// chart and the documentation come to is decoded strictly, judged by policies,
// and its configuration is read by the program itself.
//
// It is a module of its own, so that the types of Kubernetes, cert-manager and
// the Prometheus operator never enter the product's go.sum.
package verify
